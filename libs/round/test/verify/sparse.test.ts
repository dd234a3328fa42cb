import type { CohortTranscript } from "@tutti/wire/transcript";
import { beforeAll, describe, expect, test } from "vitest";
import { verifyRound } from "../../src/verify.ts";
import { fault } from "./caught.ts";
import * as house from "./played.ts";

/** docs/protocol.md, Transcript: who picked whom is in the record, and signed. */

describe("a sum over more than 100", () => {
  const cohort = { min: 3, max: 200 };
  let wide: house.PlayedRound;
  beforeAll(async () => {
    wide = await house.playRound({ plan: { cohort, rounds: 1 }, round: 1, devices: 101 });
  }, 120_000);
  const wrong = (change: (cohort: CohortTranscript) => void) => {
    return fault(house.retold(wide, ({ cohorts }) => change(cohorts[0]!))).message;
  };

  test("is found good, with the holders that each device picked", () => {
    const { checks, unchecked } = verifyRound(wide.given);
    expect(unchecked).toEqual([]);
    const session = checks.find(({ what }) => what === "cohort 1, session")!.found;
    expect(session).toMatch(/, threshold \d+ of \d+ share-holders$/);
    expect(wide.transcript.cohorts[0]!.picks).toHaveLength(101);
  });

  test("a pick changed, moved, exchanged, or too many left out", () => {
    const signature = /^cohort 1, picks: expected d001's signature, got another/;
    const [, first, second] = wide.transcript.cohorts[0]!.picks;
    for (let at = 0; at < first!.signature.length; at += 31)
      expect(wrong(({ picks }) => (picks[1]!.signature[at]! ^= 1))).toMatch(signature);
    expect(wrong(({ picks }) => (picks[1]!.holders = second!.holders))).toMatch(signature);
    expect(wrong(({ picks }) => (picks[1]!.holders = new Uint8Array()))).toMatch(signature);
    expect(wrong(({ picks }) => picks.reverse())).toMatch(/picks: expected members of the roster, each once/);
    expect(wrong(({ picks }) => (picks.at(-1)!.member = 101))).toMatch(
      /picks: expected members of the roster/,
    );
    expect(wrong(({ picks }) => picks.splice(0, 11))).toMatch(/picks: expected at least 91, got 90/);
    // Within what may be lost, but the others signed for the graph with it.
    expect(wrong(({ picks }) => picks.pop())).toMatch(/senders: expected devices of the stage before/);
  });
});
