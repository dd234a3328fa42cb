import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { unmask, waitingFor } from "../src/server/session.ts";
import { thresholdFor } from "../src/threshold.ts";
import { begin, close, during, names, plainSum, STAGES, terms } from "./federation.ts";

/** For every device the stage in which it vanishes; 5 is never. */
const fates = fc.integer({ min: 3, max: 12 }).chain((n) =>
  fc.array(fc.oneof({ weight: 3, arbitrary: fc.constant(5) }, fc.integer({ min: 0, max: 4 })), {
    minLength: n,
    maxLength: n,
  }),
);
const shape = fc.record({ bits: fc.integer({ min: 8, max: 32 }), length: fc.integer({ min: 1, max: 9 }) });

describe("a whole session", () => {
  test("opens to the plain sum of U3 bit for bit, or fails below t with nothing revealed", {
    timeout: 120_000,
  }, async () => {
    const seen = { opened: 0, failed: 0 };
    await fc.assert(
      fc.asyncProperty(fates, shape, async (fate, { bits, length }) => {
        const all = names(fate.length);
        const play = begin(fate.length, terms({ bits, length }));
        const here = (stage: number) => all.filter((_, i) => fate[i]! > stage);
        // The roster is who advertised; a roster below the devices' floor of three is another test's story.
        const n = here(0).length;
        fc.pre(n >= 3 && here(2).length !== 2);
        for (const [i, stage] of STAGES.entries()) {
          await during(play, stage, here(i));
          expect(waitingFor(play.session).every((device) => !here(i).includes(device))).toBe(true);
          if (play.session.phase !== "complete") close(play);
          if (play.session.phase === "failed") break;
        }
        const t = thresholdFor(n);
        const enough = STAGES.every((_, i) => here(i).length >= t);
        expect(play.session.phase).toBe(enough ? "complete" : "failed");
        if (enough) {
          expect(await unmask(play.session, play.sum)).toEqual(plainSum(play, here(2)));
          seen.opened++;
        } else {
          expect(play.session.reason).toContain("below threshold");
          if (here(3).length < t) expect(play.session.revealed.size).toBe(0);
          await expect(unmask(play.session, play.sum)).rejects.toThrow("unmasking: expected phase complete");
          seen.failed++;
        }
      }),
      { numRuns: 300 },
    );
    expect(seen.opened).toBeGreaterThan(30);
    expect(seen.failed).toBeGreaterThan(30);
  });
});
