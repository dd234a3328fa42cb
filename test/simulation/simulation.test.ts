import { describe, expect, test } from "vitest";
import { CASES } from "./cases.ts";
import { replayCommand } from "./search.ts";
import { simulate, type Verdict } from "./seed.ts";
import { FEWEST_KINDS } from "./world.ts";

/** A few of those that the claim `coordinator/simulation` goes through. */
const FIRST = 1;
const SEEDS = 24;

/** What a failure says: the seed, how to see it again, and its last lines. */
function report({ seed, violation, last }: Verdict): string {
  return violation === null ? "" : [violation, replayCommand(seed), ...last].join("\n");
}

describe("a federation with everything around it simulated", () => {
  test.each(Array.from({ length: SEEDS }, (_, at) => FIRST + at))("seed %i", async (seed) => {
    const verdict = await simulate(seed);
    expect(report(verdict)).toBe("");
    expect(Object.keys(verdict.strikes).length).toBeGreaterThanOrEqual(FEWEST_KINDS);
  });

  test.each([...CASES])("seed $seed: $found", async ({ seed }) => {
    expect(report(await simulate(seed))).toBe("");
  });

  test("the same seed goes the same way, line for line; another one another", async () => {
    const [once, again, other] = [await simulate(7), await simulate(7), await simulate(8)];
    expect(again).toEqual(once);
    expect(other.trace).not.toBe(once.trace);
    expect(once.lines).toBeGreaterThan(100);
  });
});
