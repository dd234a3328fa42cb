import { seededRandom } from "@tutti/foundation/random";
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import {
  dequantise,
  quantise,
  roundingNorm,
  type Scale,
  steps,
  type Vector,
  wordsOf,
} from "../src/quantise.ts";

const SCALE: Scale = { bits: 24, devices: 100, clip: 1, maxWeight: 1000, metrics: [1000, 20_000] };

/** Adds words mod 2^32, as the masked sum does. */
function add(all: readonly Uint32Array[]): Uint32Array {
  return all.reduce((sum, words) => sum.map((word, i) => word + words[i]!));
}

const scales = fc
  .record({
    bits: fc.integer({ min: 8, max: 32 }),
    devices: fc.integer({ min: 1, max: 60 }),
    clip: fc.double({ min: 1e-3, max: 1e3, noNaN: true }),
    maxWeight: fc.integer({ min: 1, max: 1e6 }),
    metrics: fc.array(fc.double({ min: 1e-3, max: 1e6, noNaN: true }), { maxLength: 3 }),
  })
  .filter(({ bits, devices }) => devices * 3 <= 2 ** bits);

type Cohort = { scale: Scale; vectors: Vector[]; seed: number };

/** Honest cohorts of one scale; values may lie outside their range, where they are cut. */
const cohorts: fc.Arbitrary<Cohort> = scales.chain((scale) =>
  fc.record({
    scale: fc.constant(scale),
    seed: fc.nat(),
    vectors: fc.array(
      fc.record({
        update: fc
          .array(fc.double({ min: -1.5 * scale.clip, max: 1.5 * scale.clip, noNaN: true }), {
            minLength: 3,
            maxLength: 3,
          })
          .map((values) => Float32Array.from(values)),
        weight: fc.double({ min: -0.1 * scale.maxWeight, max: 1.2 * scale.maxWeight, noNaN: true }),
        metrics: fc.tuple(
          ...scale.metrics.map((bound) => fc.double({ min: -bound, max: 2 * bound, noNaN: true })),
        ),
      }),
      { minLength: 1, maxLength: scale.devices },
    ),
  }),
);

function words({ scale, vectors, seed }: Cohort): Uint32Array[] {
  return vectors.map((vector, i) => quantise(vector, scale, seededRandom(`${seed}/${i}`)));
}

const cut = (value: number, low: number, high: number) => Math.min(high, Math.max(low, value));

/** A word as the integer it stands for, in BigInt and without shifts. */
function signed(word: number, bits: number): bigint {
  return BigInt.asIntN(bits, BigInt(word));
}

/** Slots as the device counts them: in 1/density, from the words alone. */
function slotTwin(word: number, bound: number, scale: Scale): number {
  const b = steps(scale);
  const per = (2 * b) / bound >= 1 ? Math.floor((2 * b) / bound) : (2 * b) / bound;
  return Number(signed(word, scale.bits) + BigInt(b)) / per;
}

describe("steps: n·(2B+1) ≤ 2^b", () => {
  test("hand-computed", () => {
    expect(steps({ ...SCALE, bits: 24, devices: 100 })).toBe(83_885);
    expect(steps({ ...SCALE, bits: 8, devices: 85 })).toBe(1);
    expect(steps({ ...SCALE, bits: 32, devices: 1 })).toBe(2 ** 31 - 1);
  });

  test("the largest such B, by BigInt", () => {
    fc.assert(
      fc.property(scales, (scale) => {
        const b = BigInt(steps(scale));
        const room = 2n ** BigInt(scale.bits);
        expect(BigInt(scale.devices) * (2n * b + 1n) <= room).toBe(true);
        expect(BigInt(scale.devices) * (2n * (b + 1n) + 1n) <= room).toBe(false);
      }),
    );
  });

  test("too few bits, or a field out of range, is a Fault that says what would do", () => {
    expect(() => steps({ ...SCALE, bits: 8, devices: 86 })).toThrow("at least 9 for 86 devices, got 8");
    expect(() => steps({ ...SCALE, bits: 33 })).toThrow("scale.bits: expected an integer in 2..32, got 33");
    expect(() => steps({ ...SCALE, devices: 1001 })).toThrow("scale.devices");
    expect(() => steps({ ...SCALE, clip: 0 })).toThrow("scale.clip: expected a positive number, got 0");
    expect(() => steps({ ...SCALE, maxWeight: Number.NaN })).toThrow("scale.maxWeight");
    expect(() => steps({ ...SCALE, metrics: [1, -1] })).toThrow("scale.metrics[1]");
  });
});

describe("quantise and dequantise", () => {
  test("one device, by hand: 8 bits, 3 devices, B = 42", () => {
    const scale: Scale = { bits: 8, devices: 3, clip: 42, maxWeight: 4, metrics: [84] };
    expect(steps(scale)).toBe(42);
    const vector = { update: Float32Array.of(0, 10, -10, 99), weight: 4, metrics: [50] };
    const made = quantise(vector, scale, seededRandom(1));
    // Weight 4 at 21 steps per one is 84, centred 42; the metric 50 at one step each, centred 8.
    expect([...made]).toEqual([0, 10, 256 - 10, 42, 42, 8]);
    expect(dequantise(made, { scale, length: 4, devices: 1 })).toEqual({
      mean: Float32Array.of(0, 10, -10, 42),
      weight: 4,
      metrics: [50],
    });
  });

  test("counts come out exact where the grid is fine enough for them", () => {
    const counts = [1, 7, 333, 1000];
    const all = counts.map((n) =>
      quantise({ update: Float32Array.of(0.5), weight: n, metrics: [n - 1, n * 3] }, SCALE, seededRandom(n)),
    );
    const { weight, metrics } = dequantise(add(all), { scale: SCALE, length: 1, devices: 4 });
    expect(weight).toBe(1341);
    expect(metrics).toEqual([1337, 4023]);
  });

  test("a round that only evaluates: no coordinates, metrics all the same", () => {
    const all = [3, 4].map((n) =>
      quantise({ update: new Float32Array(0), weight: n, metrics: [n, 2 * n] }, SCALE, seededRandom(n)),
    );
    expect(wordsOf(SCALE, 0)).toBe(3);
    expect(dequantise(add(all), { scale: SCALE, length: 0, devices: 2 })).toEqual({
      mean: new Float32Array(0),
      weight: 7,
      metrics: [7, 14],
    });
  });

  test("equal full weights: the mean is within one step, clip/B, of the exact mean", () => {
    fc.assert(
      fc.property(cohorts, (cohort) => {
        const { scale } = cohort;
        const vectors = cohort.vectors.map((vector) => ({ ...vector, weight: scale.maxWeight }));
        const sum = add(words({ ...cohort, vectors }));
        const { mean } = dequantise(sum, { scale, length: 3, devices: vectors.length });
        const step = scale.clip / steps(scale);
        mean.forEach((value, i) => {
          const exact =
            vectors.reduce((total, { update }) => total + cut(update[i]!, -scale.clip, scale.clip), 0) /
            vectors.length;
          expect(Math.abs(value - exact)).toBeLessThanOrEqual(step + scale.clip * 1e-6);
        });
      }),
    );
  });

  test("any weights: within a step divided by the mean share of the mean with the weights counted", () => {
    fc.assert(
      fc.property(cohorts, (cohort) => {
        const { scale, vectors } = cohort;
        const all = words(cohort);
        const counted = all.map((made) => slotTwin(made[3]!, scale.maxWeight, scale));
        const total = counted.reduce((sum, weight) => sum + weight, 0);
        fc.pre(total > 0);
        const { mean, weight, metrics } = dequantise(add(all), { scale, length: 3, devices: vectors.length });
        expect(weight).toBeCloseTo(total, 6);
        metrics.forEach((value, slot) => {
          const bound = scale.metrics[slot]!;
          const exact = vectors.reduce((sum, vector) => sum + cut(vector.metrics[slot]!, 0, bound), 0);
          const grid = Math.max(bound / (2 * steps(scale)), Math.min(1, bound / steps(scale)));
          expect(Math.abs(value - exact)).toBeLessThanOrEqual(vectors.length * grid + exact * 1e-9);
        });
        const step = scale.clip / steps(scale) / (total / scale.maxWeight / vectors.length);
        mean.forEach((value, i) => {
          const exact =
            vectors.reduce(
              (sum, { update }, v) => sum + counted[v]! * cut(update[i]!, -scale.clip, scale.clip),
              0,
            ) / total;
          expect(Math.abs(value - exact)).toBeLessThanOrEqual(step + scale.clip * 1e-6);
        });
      }),
    );
  });

  test("slow BigInt twin: the sum never wraps, whatever the words' order and higher bits", () => {
    fc.assert(
      fc.property(cohorts, (cohort) => {
        const { scale, vectors } = cohort;
        const all = words(cohort);
        const half = 2n ** BigInt(scale.bits - 1);
        const mod32 = add(all);
        for (let i = 0; i < mod32.length; i++) {
          const exact = all.reduce((sum, made) => sum + signed(made[i]!, scale.bits), 0n);
          expect(exact >= -half && exact < half).toBe(true);
          expect(signed(mod32[i]!, scale.bits)).toBe(exact);
        }
        for (const made of all) for (const word of made) expect(word < 2 ** scale.bits).toBe(true);
        const low = mod32.map((word) => Number(BigInt.asUintN(scale.bits, BigInt(word))));
        const sumOf = { scale, length: 3, devices: vectors.length };
        fc.pre(all.some((made) => slotTwin(made[3]!, scale.maxWeight, scale) > 0));
        expect(dequantise(low, sumOf)).toEqual(dequantise(mod32, sumOf));
      }),
    );
  });

  test.each([8, 16, 24, 32])("extremes of a full cohort survive %d bits", (bits) => {
    const scale: Scale = { bits, devices: 50, clip: 2, maxWeight: 10, metrics: [5] };
    const vector: Vector = { update: Float32Array.of(2, -2, 9, -9), weight: 99, metrics: [5] };
    const all = Array.from({ length: 50 }, (_, i) => quantise(vector, scale, seededRandom(i)));
    const { mean, weight, metrics } = dequantise(add(all), { scale, length: 4, devices: 50 });
    expect([...mean].map((value) => Math.round(value * 1e6) / 1e6)).toEqual([2, -2, 2, -2]);
    expect(weight).toBeCloseTo(500, 9);
    expect(metrics[0]).toBeCloseTo(250, 9);
  });

  test("stochastic rounding is unbiased: a value between steps comes out as itself on average", () => {
    const scale: Scale = { bits: 8, devices: 20, clip: 1, maxWeight: 3, metrics: [3] };
    const b = steps(scale);
    expect(b).toBe(5);
    const random = seededRandom("unbiased");
    const draws = 20_000;
    const means = [0, 0, 0, 0];
    for (let i = 0; i < draws; i++) {
      const made = quantise(
        { update: Float32Array.of(0.33, -0.71), weight: 3, metrics: [1.5] },
        scale,
        random,
      );
      for (const at of [0, 1]) means[at]! += Number(signed(made[at]!, 8)) / b / draws;
      for (const at of [2, 3]) means[at]! += slotTwin(made[at]!, 3, scale) / draws;
    }
    // Five standard errors of a rounding bit: 5 · 0.5 / sqrt(20000) / B.
    expect(Math.abs(means[0]! - 0.33)).toBeLessThan(0.0036);
    expect(Math.abs(means[1]! + 0.71)).toBeLessThan(0.0036);
    expect(means[2]!).toBeCloseTo(3, 9);
    // Three steps per one here: five standard errors are 5 · 0.5 / sqrt(20000) / 3.
    expect(Math.abs(means[3]! - 1.5)).toBeLessThan(0.006);
  });

  test("same seed, same words", () => {
    const vector = { update: Float32Array.of(0.1234, 0.5678), weight: 3, metrics: [1, 2] };
    expect(quantise(vector, SCALE, seededRandom(7))).toEqual(quantise(vector, SCALE, seededRandom(7)));
    expect(quantise(vector, SCALE, seededRandom(7))).not.toEqual(quantise(vector, SCALE, seededRandom(8)));
  });
});

describe("refused (docs/attacks.md, attack 11)", () => {
  const good: Vector = { update: Float32Array.of(0.5), weight: 1, metrics: [1, 2] };

  test("what is not finite, by name; a wrong count of metrics", () => {
    const made = (vector: Partial<Vector>) => quantise({ ...good, ...vector }, SCALE, seededRandom(1));
    expect(() => made({ update: Float32Array.of(Number.NaN) })).toThrow("update: expected finite values");
    expect(() => made({ weight: Number.POSITIVE_INFINITY })).toThrow("weight: expected a finite number");
    expect(() => made({ metrics: [1, Number.NaN] })).toThrow("metric 1: expected a finite number, got NaN");
    expect(() => made({ metrics: [1] })).toThrow("metrics: expected 2, got 1");
  });

  test("a sum of another length, of more devices, beyond what vectors add up to, or without weight", () => {
    const sum = quantise(good, SCALE, seededRandom(1));
    const sumOf = { scale: SCALE, length: 1, devices: 1 };
    expect(wordsOf(SCALE, 1)).toBe(4);
    expect(() => dequantise(sum.subarray(1), sumOf)).toThrow("sum: expected 4 words, got 3");
    expect(() => dequantise(sum, { ...sumOf, devices: 101 })).toThrow("devices in the sum");
    const beyond = sum.slice();
    beyond[0] = steps(SCALE) + 1;
    expect(() => dequantise(beyond, sumOf)).toThrow("sum, word 0: expected ±83885, got 83886");
    const idle = quantise({ ...good, weight: 0 }, SCALE, seededRandom(1));
    expect(() => dequantise(idle, sumOf)).toThrow("expected some weight, got 0 examples");
  });

  test("any words at all say finite numbers in range, or are refused: there is no word for NaN", () => {
    const word = fc.integer({ min: 0, max: 2 ** 32 - 1 });
    const scale = { ...SCALE, bits: 9, devices: 3, maxWeight: 10, metrics: [4] };
    const wide = wordsOf(scale, 3);
    const ends = { read: 0, refused: 0 };
    fc.assert(
      fc.property(fc.array(word, { minLength: wide, maxLength: wide }), (sum) => {
        const of = { scale, length: 3, devices: 3 };
        let got: ReturnType<typeof dequantise>;
        try {
          got = dequantise(Uint32Array.from(sum), of);
        } catch (fault) {
          ends.refused++;
          expect(String(fault)).toMatch(/sum, word|0 examples/);
          return;
        }
        ends.read++;
        const { mean, weight, metrics } = got;
        const unit = (scale.clip * scale.maxWeight) / weight;
        for (const value of mean) expect(Math.abs(value)).toBeLessThanOrEqual(3 * unit * (1 + 2 ** -23));
        const most = (bound: number) => 3 * slotTwin(steps(scale), bound, scale);
        expect(weight).toBeGreaterThan(0);
        expect(weight).toBeLessThanOrEqual(most(scale.maxWeight));
        expect(metrics[0]).toBeGreaterThanOrEqual(0);
        expect(metrics[0]).toBeLessThanOrEqual(most(4));
      }),
      { numRuns: 500 },
    );
    expect(Math.min(ends.read, ends.refused)).toBeGreaterThan(5);
  });

  test("rounding moves a mean by less than roundingNorm, in L2", () => {
    fc.assert(
      fc.property(cohorts, (cohort) => {
        const { scale, vectors } = cohort;
        const of = { scale, length: 3, devices: vectors.length };
        const sum = add(words(cohort));
        const weights = words(cohort).map((own) => slotTwin(own[3]!, scale.maxWeight, scale));
        const total = weights.reduce((all, weight) => all + weight, 0);
        if (total === 0) return;
        const exact = [0, 1, 2].map((i) => {
          const parts = vectors.map(
            ({ update }, at) => weights[at]! * cut(update[i]!, -scale.clip, scale.clip),
          );
          return parts.reduce((all, part) => all + part, 0) / total;
        });
        const { mean, weight } = dequantise(sum, of);
        const off = Math.hypot(...exact.map((value, i) => value - mean[i]!));
        expect(off).toBeLessThanOrEqual(roundingNorm(of, weight) + scale.clip * 1e-6);
      }),
    );
  });
});
