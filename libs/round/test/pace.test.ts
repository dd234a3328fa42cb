import { seededRandom } from "@tutti/foundation/random";
import fc from "fast-check";
import { expect, test } from "vitest";
import { windowFor } from "../src/pace.ts";

test("devices come at no more than the rate asked for, once or again and again", () => {
  fc.assert(
    fc.property(
      fc.record({
        devices: fc.integer({ min: 1, max: 1_000_000 }),
        perS: fc.integer({ min: 1, max: 1000 }),
        leastMs: fc.integer({ min: 1, max: 10_000 }),
      }),
      ({ devices, perS, leastMs }) => {
        const { minMs, maxMs } = windowFor(devices, { perS, leastMs });
        expect(maxMs).toBeGreaterThanOrEqual(leastMs);
        // Drawn evenly, one arrival per device; whole milliseconds take a little of the width.
        expect((devices * 1000) / (maxMs - minMs + 1)).toBeLessThanOrEqual(perS);
        // In the long run, each comes again after the mean.
        expect((devices * 2000) / (minMs + maxMs)).toBeLessThanOrEqual(perS);
      },
    ),
  );
});

test("ten thousand that lost their coordinator at once are back within 90 s, at the rate", () => {
  const [devices, perS] = [10_000, 200];
  const { minMs, maxMs } = windowFor(devices, { perS, leastMs: 300 });
  expect(maxMs).toBeLessThanOrEqual(90_000);
  const random = seededRandom("back");
  const arrivals = new Map<number, number>();
  for (let device = 0; device < devices; device++) {
    const second = Math.floor((minMs + random.uniform() * (maxMs - minMs)) / 1000);
    arrivals.set(second, (arrivals.get(second) ?? 0) + 1);
  }
  // Five standard deviations of a Poisson count above its mean.
  expect(Math.max(...arrivals.values())).toBeLessThanOrEqual(perS + 5 * Math.sqrt(perS));
});
