import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { checkFinite, clip } from "../src/clip.ts";

/** The norm in float64, summed the slow way. */
function norm(vector: Float32Array): number {
  return Math.hypot(...vector);
}

const updates = fc
  .array(fc.float({ noNaN: true, noDefaultInfinity: true, min: Math.fround(-1e6), max: Math.fround(1e6) }), {
    minLength: 1,
    maxLength: 50,
  })
  .map((values) => Float32Array.from(values));

describe("clip", () => {
  test("a 3-4-5 triangle of norm 5 bounded by 1 becomes 0.6, 0.8", () => {
    const [x, y] = clip(Float32Array.of(3, 4), 1);
    expect(x).toBeCloseTo(0.6, 6);
    expect(y).toBeCloseTo(0.8, 6);
  });

  test("a short update comes back as it is", () => {
    const update = Float32Array.of(0.3, -0.4);
    expect(clip(update, 0.6)).toBe(update);
    expect(clip(new Float32Array(3), 1)).toEqual(new Float32Array(3));
  });

  test("the norm never exceeds the bound, the direction stays, the argument is untouched", () => {
    fc.assert(
      fc.property(updates, fc.double({ min: 1e-3, max: 1e3, noNaN: true }), (update, bound) => {
        const before = update.slice();
        const bounded = clip(update, bound);
        const length = norm(update);
        expect(norm(bounded)).toBeLessThanOrEqual(bound);
        expect(update).toEqual(before);
        if (length <= bound) return;
        expect(norm(bounded)).toBeGreaterThan(bound * (1 - 1e-6));
        bounded.forEach((value, i) => {
          expect(Math.abs(value - (update[i]! * bound) / length)).toBeLessThanOrEqual(bound * 1e-6);
        });
      }),
    );
  });

  test("squares of the largest float32 values do not overflow", () => {
    const bounded = clip(Float32Array.of(3e38, -3e38), 1);
    expect(bounded[0]).toBeCloseTo(Math.SQRT1_2, 6);
    expect(bounded[1]).toBeCloseTo(-Math.SQRT1_2, 6);
  });

  test.each([Number.NaN, Number.POSITIVE_INFINITY, Number.NEGATIVE_INFINITY])(
    "%d is refused by place",
    (bad) => {
      expect(() => clip(Float32Array.of(0, 1, bad), 1)).toThrow(`got ${bad} at coordinate 2`);
      expect(() => checkFinite("gradient", Float32Array.of(bad))).toThrow("gradient: expected finite values");
    },
  );

  test.each([0, -1, Number.NaN, Number.POSITIVE_INFINITY])("a bound of %d is refused", (bound) => {
    expect(() => clip(Float32Array.of(1), bound)).toThrow("clip norm: expected a positive number");
  });
});
