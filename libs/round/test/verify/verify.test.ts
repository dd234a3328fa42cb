import { utf8 } from "@tutti/foundation/bytes";
import { sha256, sha256Hex } from "@tutti/foundation/hash";
import { newSeed, signingKey } from "@tutti/identity/keys";
import { envelopeJson, signEnvelope } from "@tutti/release/dsse";
import { signPlan } from "@tutti/release/plan";
import { encode } from "@tutti/wire/message";
import { TranscriptSchema } from "@tutti/wire/transcript";
import { beforeAll, describe, expect, test } from "vitest";
import { random } from "../../../secagg/test/federation.ts";
import { verifyRound } from "../../src/verify.ts";
import { fault, foundIn, MOMENTUM, NONE } from "./caught.ts";
import * as house from "./played.ts";

/** docs/protocol.md, Transcript: what a third party finds, and what it finds out. */

let round: house.PlayedRound;
let later: house.PlayedRound;
let judged: house.PlayedRound;
let many: house.PlayedRound;
beforeAll(async () => {
  round = await house.playRound({});
  later = await house.playRound({ plan: MOMENTUM, round: 1 });
  judged = await house.playRound({ round: 2 });
  many = await house.playRound({ plan: { cohort: { min: 3, max: 10, count: 4 } }, dealt: 4 });
});

const found = (change: Parameters<typeof foundIn>[1]) => foundIn(round, change);

describe("a round that went as it is told", () => {
  test("is found good, down to the step; what was not given is said to be unchecked", () => {
    const all = verifyRound(round.given);
    expect(all.unchecked).toEqual([]);
    expect(all.checks.map(({ what }) => what)).toEqual([
      "transcript",
      "plan",
      "task",
      ...["terms", "members", "session", "sets", "attestations"].map((what) => `cohort 1, ${what}`),
      "sum",
      "manifest",
      "adapter",
      "step",
    ]);
    expect(all.record).toMatchObject({ survivors: 3, examples: expect.closeTo(30, 3) });
    expect(all.digest).toBe(round.release.transcript);
    const bare = verifyRound({ ...round.given, ...NONE });
    expect(bare.unchecked).toEqual(["sum", "manifest", "adapter", "step"]);
  });

  test("with a rule that remembers: the step needs its state, which is what the last round left", () => {
    expect(verifyRound(later.given).unchecked).toEqual([]);
    const { state: _, ...without } = later.given;
    expect(verifyRound({ ...without, previous: undefined }).unchecked).toEqual(["previous", "step"]);
  });

  test("of evaluation makes no release, and has its sum", () => {
    const { unchecked, record } = verifyRound(judged.given);
    expect(unchecked).toEqual([]);
    expect(record).toMatchObject({ loss: expect.closeTo(0.5, 3) });
    const named = { transcript: sha256Hex(judged.given.transcript), version: 3, round: 2 };
    const claimed = house.manifestOf(judged.release, named);
    expect(fault({ ...judged.given, manifest: claimed }).message).toMatch(/^manifest: expected none/);
  });

  test("of two cohorts with the same sum is found good, with its file once or twice", async () => {
    const plan = { cohort: { min: 3, max: 10, count: 2 } };
    const { given } = await house.playRound({ plan, dealt: 2, twins: true });
    const [sum] = given.sums!;
    expect(given.sums).toEqual([sum, sum]);
    for (const sums of [given.sums, [sum!]]) {
      const { unchecked, record } = verifyRound({ ...given, sums });
      expect(unchecked).toEqual([]);
      expect(record).toMatchObject({ survivors: 6, examples: expect.closeTo(60, 3) });
    }
    const other = fault({ ...given, sums: [sum!, Uint8Array.of(1)] });
    expect(other.message).toMatch(/^sums: expected sums of this round, got another/);
    expect(fault({ ...given, sums: [] }).message).toMatch(/^cohort 1, sum: expected SHA-256 .*, got none/);
  });

  test("can be checked after its certificates expired, and not before it was", () => {
    verifyRound({ ...round.given, nowS: house.NOW_S + 1_000_000 });
    expect(fault({ ...round.given, nowS: house.NOW_S - 1000 }).message).toMatch(/^transcript, time/);
  });
});

describe("who signed", () => {
  test("another authority than the checker's", () => {
    const other = signingKey(newSeed(random)).publicKey;
    expect(fault({ ...round.given, authority: other }).message).toMatch(
      /certificate of coordinator-22.*auth/,
    );
  });

  test("an owner in the coordinator's place, the coordinator in the owner's", () => {
    const file = house.signed(round.transcript, house.OWNER);
    expect(fault({ ...round.given, transcript: file }).message).toMatch(/owner-21.*role coordinator/);
    const plan = signPlan(round.spec.plan, house.COORDINATOR);
    expect(found((it) => (it.plan = plan))).toMatch(/coordinator-22.*role owner/);
  });

  test("another kind of statement by the same coordinator", () => {
    const payload = encode(TranscriptSchema, round.transcript);
    const file = utf8(envelopeJson(signEnvelope("application/other", payload, house.COORDINATOR)));
    expect(fault({ ...round.given, transcript: file }).message).toMatch(/^transcript, type/);
  });

  test("a moment at which the certificates were not valid", () => {
    expect(found((it) => (it.checkedAtS -= 3600))).toMatch(/certificate of .* already valid/);
  });
});

describe("what was asked", () => {
  test("another run, a round that the plan has not, another kind of task", () => {
    expect(found((it) => (it.task!.run = "ff".repeat(32)))).toMatch(/^task, run/);
    expect(found((it) => (it.task!.round = 3))).toMatch(/^task: expected training before round 2/);
    expect(found((it) => (it.task!.kind = 2))).toMatch(/^task: expected training before round 2/);
    expect(found((it) => (it.task!.round = 1))).toMatch(/^parent, version/);
  });

  test("a parent of another run, though the task names it", () => {
    const message = found((it) => {
      it.parent = house.manifestOf(round.release, { run: "ff".repeat(32), version: 0 });
      it.task!.parent = sha256(it.parent.payload);
    });
    expect(message).toMatch(/^parent, run/);
  });

  test.each(["run", "round", "bits", "length", "plain", "corrupt", "lost"] as const)(
    "terms with another %s",
    (field) => {
      const message = found((_, { terms }) => {
        const value = terms![field];
        Object.assign(terms!, {
          [field]: typeof value === "number" ? value + 1 : field === "run" ? "ff" : true,
        });
      });
      expect(message).toMatch(new RegExp(`^cohort 1, terms: ${field}`));
    },
  );

  test("another attempt than the one whose keys were signed", () => {
    expect(found((_, { terms }) => terms!.attempt++)).toMatch(/keys of d00: expected its signature/);
  });
});

describe("who was in the sum", () => {
  test("a device's keys of another attempt, and a certificate that another device has", async () => {
    const again = await house.playRound({ attempt: 2 });
    const theirs = again.transcript.cohorts[0]!.members[0]!;
    expect(found((_, { members }) => (members[0] = theirs))).toMatch(/keys of d00: expected its signature/);
    const moved = found((_, { members }) => {
      members[0]!.certificate = members[1]!.certificate!;
    });
    expect(moved).toMatch(/keys of d01: expected its signature/);
  });

  test("names in another order, or twice", () => {
    const swap = <T>(list: T[]) => ([list[0], list[1]] = [list[1]!, list[0]!]);
    const order = /expected each name once, ascending/;
    expect(found((_, { members }) => swap(members))).toMatch(order);
    expect(found((_, { senders }) => swap(senders))).toMatch(order);
    expect(found((_, { survivors }) => swap(survivors))).toMatch(order);
    expect(found((_, { attested }) => swap(attested))).toMatch(order);
    expect(found((_, { members }) => members.unshift(members[0]!))).toMatch(order);
    expect(found((_, { attested }) => attested.unshift(attested[0]!))).toMatch(order);
  });

  test("one name exchanged for another, added or left out", () => {
    const signature = /attestations: expected d00's signature over this session's/;
    expect(found((_, { members }) => members.pop())).toMatch(/senders: expected devices of the stage before/);
    expect(found((_, { senders }) => senders.splice(3, 1))).toMatch(signature);
    expect(found((_, { senders }) => senders.push("zoe"))).toMatch(/senders: expected devices of the stage/);
    expect(found((_, { survivors }) => survivors.push("d03"))).toMatch(signature);
    expect(found((_, { survivors }) => survivors.push("zoe"))).toMatch(/survivors: .*got zoe/);
    expect(found((_, { survivors }) => survivors.splice(2, 1, "d03"))).toMatch(signature);
    expect(found((_, { survivors }) => survivors.pop())).toMatch(/survivors: expected at least 3, got 2/);
  });

  test("a signer fewer than the quorum, or one who is no survivor", () => {
    expect(found((_, { attested }) => attested.pop())).toMatch(/attestations: expected at least 3, got 2/);
    const stranger = found((_, { attested }) => {
      attested[2]!.device = "d03";
    });
    expect(stranger).toMatch(/attestations: expected signatures of survivors, got one of d03/);
  });

  test("one cohort told twice, or none that counted", () => {
    const pushed = found(({ cohorts }) => cohorts.push(cohorts[0]!));
    expect(pushed).toMatch(/^cohorts, dealt: expected 1..1, with the 2/);
    const twice = fault(house.retold(many, (it) => it.cohorts.push(it.cohorts[0]!)));
    expect(twice.message).toMatch(/keys of d00: expected keys of its own/);
    expect(found((_, cohort) => (cohort.counted = false))).toMatch(
      /^cohorts: expected at least 1 that counted/,
    );
    expect(found(({ cohorts }) => cohorts.pop())).toMatch(/^cohorts: expected at least 1 that counted/);
  });

  test("fewer cohorts than a rule wants, or a good one left out", async () => {
    const cohort = { min: 3, max: 10, count: 4, combine: "median" };
    const one = await house.playRound({ plan: { cohort }, dealt: 4 });
    expect(fault(one.given).message).toMatch(/^cohorts: expected at least 3 that counted, got 1/);
    expect(fault(house.retold(one, (it) => (it.dealt = 1))).message).toMatch(
      /^cohorts, dealt: expected 3..4/,
    );
    const left = house.retold(many, ({ cohorts }) => {
      const other = { ...cohorts[0]!, counted: false };
      cohorts.splice(0, 1, other);
    });
    expect(fault(left).message).toMatch(/^cohorts: expected at least 1 that counted/);
  });

  test("picks where everyone shares with everyone", () => {
    const pick = { $typeName: "tutti.v1.Pick" as const, member: 0, holders: new Uint8Array(2) };
    const message = found((_, { picks }) => picks.push({ ...pick, signature: new Uint8Array(64) }));
    expect(message).toMatch(/^cohort 1, picks: expected none, got 1/);
  });

  test("fewer or more devices than the plan allows", async () => {
    const wide = await house.playRound({ plan: { cohort: { min: 4, max: 10 } } });
    expect(fault(wide.given).message).toMatch(/survivors: expected 4..10, as the plan says, got 3/);
  });
});
