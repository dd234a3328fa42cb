import { seededRandom } from "@tutti/foundation/random";
import { describe, expect, test } from "vitest";
import { CASES } from "./cases.ts";
import { Life } from "./life.ts";
import { MOST_AT_ONCE, restless } from "./rest.ts";
import { bugOf, replayCommand, search } from "./search.ts";
import { simulate, type Verdict } from "./seed.ts";
import { Timeline } from "./timeline.ts";
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

  test("a coordinator that loses its alarm is found, and not waited for", async () => {
    const [verdict] = await search({ from: 1, to: 1, workers: 1, bug: bugOf("no-deadline") });
    expect(verdict?.violation).toMatch(/^the federation did not come to rest within \d+ s of virtual time/);
  });

  test("time that stands still is found too", async () => {
    const timeline = new Timeline();
    const mustRest = restless(timeline, { mostMs: 10_000 });
    const again = () => void timeline.after(0, again);
    timeline.after(4_000, again);
    const lived = timeline.run(() => {
      mustRest(timeline);
      return false;
    });
    await expect(lived).rejects.toThrow(`time stands still at 4 s, after ${MOST_AT_ONCE + 1} events`);
  });

  test("a sleep of next to nothing takes time", async () => {
    const timeline = new Timeline();
    timeline.nowMs = 1_056_952.8;
    const about = { timeline, chance: seededRandom("a test"), wall: { offsetMs: 0 } };
    const { clock } = new Life("somebody", about);
    const slept = clock.sleep(1e-10);
    await timeline.run(() => true);
    await slept;
    expect(clock.nowMs()).toBeGreaterThan(0);
  });
});
