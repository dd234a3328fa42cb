import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { nextClip, withinClip } from "../src/adaptive-clip.ts";
import { boundedSlots, boundsOf, joinVector, splitVector } from "../src/vector.ts";

const options = { clip: 2, bounds: [100, 5, 1] } as const;

function normOf(v: Float32Array): number {
  return Math.sqrt(v.reduce((sum, value) => sum + value ** 2, 0));
}

describe("the one vector", () => {
  const values = fc.record({
    update: fc.array(fc.float({ min: -100, max: 100, noNaN: true }), { minLength: 1, maxLength: 20 }),
    slots: fc.tuple(...options.bounds.map((bound) => fc.double({ min: 0, max: bound, noNaN: true }))),
  });

  test("is never longer than c, whatever the update and the metrics are", () => {
    const wild = fc.record({
      update: fc.array(fc.float({ noNaN: true, noDefaultInfinity: true }), { minLength: 1 }),
      slots: fc.tuple(...options.bounds.map(() => fc.double({ noNaN: true, noDefaultInfinity: true }))),
    });
    fc.assert(
      fc.property(wild, ({ update, slots }) => {
        const whole = joinVector(Float32Array.from(update), slots, options);
        expect(normOf(whole)).toBeLessThanOrEqual(2 * (1 + 2 ** -22));
      }),
    );
    const corner = joinVector(Float32Array.of(1000), [100, 5, 1], options);
    expect(normOf(corner)).toBeCloseTo(2, 6);
  });

  test("comes apart into the mean of the cut updates and the sums of the slots", () => {
    fc.assert(
      fc.property(fc.array(values, { minLength: 1, maxLength: 8 }), (devices) => {
        const length = Math.min(...devices.map(({ update }) => update.length));
        const joined = devices.map(({ update, slots }) =>
          joinVector(Float32Array.from(update.slice(0, length)), slots, options),
        );
        const sum = joined.reduce((total, one) => total.map((value, at) => value + one[at]!));
        const { mean, slots } = splitVector(sum, devices.length, options);
        for (let i = 0; i < length; i++) {
          const real = joined.reduce((total, one) => total + one[i]!, 0) / devices.length;
          expect(mean[i]!).toBeCloseTo(real, 4);
        }
        for (const [at, value] of slots.entries()) {
          const real = devices.reduce((total, device) => total + device.slots[at]!, 0);
          expect(Math.abs(value - real)).toBeLessThan(1e-5 * options.bounds[at]! * devices.length);
        }
      }),
    );
  });

  test("slots have a tenth of the squared norm, or the share asked for; without slots none", () => {
    expect(boundsOf(options).update ** 2).toBeCloseTo(4 * 0.9, 12);
    expect(boundsOf(options).slot ** 2 * 3).toBeCloseTo(4 * 0.1, 12);
    expect(boundsOf({ ...options, share: 0.5 }).update ** 2).toBeCloseTo(2, 12);
    expect(boundsOf({ clip: 2, bounds: [] }).update).toBe(2);
  });

  test("a value beyond its range is cut; one that is none, or one too few, is refused by name", () => {
    const { slot } = boundsOf(options);
    const cut = boundedSlots([-3, 2.5, 7], options);
    expect([...cut]).toEqual([-slot, 0, slot].map(Math.fround));
    expect(() => boundedSlots([1, Number.NaN, 0], options)).toThrow(/slot 1: expected a finite number/);
    expect(() => boundedSlots([1, 2], options)).toThrow(/slots: expected 3, got 2/);
    expect(() => boundedSlots([1], { clip: 1, bounds: [0] })).toThrow(/bound of slot 0/);
    expect(() => joinVector(Float32Array.of(Number.NaN), [0, 0, 0], options)).toThrow(/coordinate 0/);
    expect(() => boundsOf({ ...options, share: 1 })).toThrow(/share of the slots/);
  });
});

describe("Andrew et al. 2021: the clip norm follows a quantile", () => {
  const rule = { quantile: 0.5, rate: 0.2, least: 0.01, most: 10 };

  test("the bit is 1 up to the norm itself, and 0 beyond or where it is no number", () => {
    expect(withinClip(Float32Array.of(3, 4), 5)).toBe(1);
    expect(withinClip(Float32Array.of(3, 4), 4.999)).toBe(0);
    expect(withinClip(Float32Array.of(Number.NaN), 5)).toBe(0);
  });

  test("all short: C·e^−0.1; none short: C·e^0.1; the quantile itself: no change", () => {
    expect(nextClip(1, 1, rule)).toBeCloseTo(Math.exp(-0.1), 12);
    expect(nextClip(1, 0, rule)).toBeCloseTo(Math.exp(0.1), 12);
    expect(nextClip(1, 0.5, rule)).toBe(1);
  });

  test("noise beyond 0 and 1 does not count, and the norm stays within its bounds", () => {
    expect(nextClip(1, 40, rule)).toBe(nextClip(1, 1, rule));
    expect(nextClip(9.9, 0, rule)).toBe(10);
    expect(nextClip(0.0101, 1, rule)).toBe(0.01);
  });

  test("ends near the median of the devices' norms, from far below and far above", () => {
    const norms = Array.from({ length: 101 }, (_, at) => 1 + at / 50);
    for (const start of [0.05, 9]) {
      let clip = start;
      for (let round = 0; round < 200; round++) {
        const short = norms.reduce((sum, norm) => sum + withinClip(Float32Array.of(norm), clip), 0);
        clip = nextClip(clip, short / norms.length, rule);
      }
      expect(Math.abs(clip - 2)).toBeLessThan(0.1);
    }
  });

  test.each([
    [{ quantile: 1 }, /quantile/],
    [{ rate: -1 }, /rate/],
    [{ least: 20 }, /least clip norm/],
  ])("a rule that is none is refused: %o", (change, message) => {
    expect(() => nextClip(1, 0.5, { ...rule, ...change })).toThrow(message);
    expect(() => nextClip(1, Number.NaN, rule)).toThrow(/fraction/);
  });
});
