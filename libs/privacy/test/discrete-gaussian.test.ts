import { platformRandom } from "@tutti/foundation/random";
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { bernoulli, bernoulliExp, compareExactly, uniformBelow, wordsOf } from "../src/bernoulli.ts";
import { discreteGaussian, MAX_SIGMA } from "../src/discrete-gaussian.ts";
import { chiSquareBound, knownBytes, knownWords } from "./chance.ts";
import { slowBernoulli, slowBernoulliExp, slowGaussian } from "./slow-gaussian.ts";

describe("Canonne, Kamath and Steinke 2020, Algorithm 1: exact coins", () => {
  /** Words at and beside the ones that decide, where float64 alone would guess. */
  const ratios = fc.integer({ min: 1, max: 2 ** 31 }).chain((denominator) =>
    fc.record({
      denominator: fc.constant(denominator),
      numerator: fc.integer({ min: 0, max: denominator }),
      beside: fc.integer({ min: -2, max: 2 }),
      next: fc.array(fc.constantFrom(0, 1, 2 ** 31, 2 ** 32 - 1), { maxLength: 3 }),
      seed: fc.string(),
    }),
  );

  test("a coin is the slow twin's on every word, also where the first word does not decide", () => {
    fc.assert(
      fc.property(ratios, ({ numerator, denominator, beside, next, seed }) => {
        const edge = Math.floor((numerator / denominator) * 2 ** 32) + beside;
        const first = [Math.min(2 ** 32 - 1, Math.max(0, edge)), ...next];
        const [fast, slow] = [knownWords(first, seed), knownWords(first, seed)];
        expect(bernoulli(fast, numerator, denominator)).toBe(
          slowBernoulli(slow, BigInt(numerator), BigInt(denominator)),
        );
        expect(fast()).toBe(slow());
        expect(bernoulliExp(fast, numerator, denominator)).toBe(
          slowBernoulliExp(slow, BigInt(numerator), BigInt(denominator)),
        );
        expect(fast()).toBe(slow());
      }),
      { numRuns: 500 },
    );
  });

  test("a third: the first word leaves it open, the second decides", () => {
    const third = Math.floor(2 ** 32 / 3);
    const coin = (...words: number[]) => compareExactly(knownWords(words.slice(1), ""), words[0]!, [1n, 3n]);
    expect([coin(third - 1), coin(third, 0), coin(third, 2 ** 32 - 1), coin(third + 1)]).toEqual([
      true,
      true,
      false,
      false,
    ]);
  });

  test("exp(−γ) is hit as often as it should be, to six standard errors", () => {
    const words = wordsOf(platformRandom());
    for (const [numerator, denominator] of [
      [0, 7],
      [1, 3],
      [1, 1],
    ] as const) {
      const runs = 100_000;
      let hits = 0;
      for (let i = 0; i < runs; i++) hits += bernoulliExp(words, numerator, denominator) ? 1 : 0;
      const p = Math.exp(-numerator / denominator);
      expect(Math.abs(hits - runs * p)).toBeLessThanOrEqual(6 * Math.sqrt(runs * p * (1 - p)));
    }
  });

  test("a uniform number does not favour what is left over of 2^32", () => {
    // 3·2^30 leaves a quarter over: the last words are drawn again.
    const words = knownWords([2 ** 32 - 1, 3 * 2 ** 30, 5], "");
    expect(uniformBelow(words, 3 * 2 ** 30)()).toBe(5);
  });

  test("a uniform number is the remainder, also at multiples and beside them", () => {
    const bounds = fc.oneof(fc.integer({ min: 1, max: 2 ** 32 }), fc.constantFrom(1, 2, 3, 2 ** 31 + 1));
    fc.assert(
      fc.property(bounds, fc.nat(), fc.integer({ min: -1, max: 1 }), (bound, times, beside) => {
        const word = (times % Math.floor(2 ** 32 / bound)) * bound + beside;
        fc.pre(word >= 0 && word < 2 ** 32 - (2 ** 32 % bound));
        expect(uniformBelow(() => word, bound)()).toBe(Number(BigInt(word) % BigInt(bound)));
      }),
    );
  });
});

/** Probabilities of −reach … reach, and of the rest on each side, by the definition. */
function pmf(variance: number, reach: number): number[] {
  const far = Math.ceil(40 * Math.sqrt(variance)) + reach;
  const weight = (x: number) => Math.exp(-(x ** 2) / (2 * variance));
  const sum = (from: number, to: number) => {
    let total = 0;
    for (let x = from; x <= to; x++) total += weight(x);
    return total;
  };
  const whole = sum(-far, far);
  const tail = sum(reach + 1, far) / whole;
  const middle = Array.from({ length: 2 * reach + 1 }, (_, at) => weight(at - reach) / whole);
  return [tail, ...middle, tail];
}

describe("Algorithm 3: the discrete Gaussian", () => {
  test.each([0.04, 0.3, 1, 2.5, 16, 100])(
    "variance %d: χ² of counts against the probabilities",
    (variance) => {
      const [count, reach] = [200_000, Math.max(1, Math.floor(3 * Math.sqrt(variance)))];
      const expected = pmf(variance, reach);
      const counts = expected.map(() => 0);
      for (const x of discreteGaussian(count, variance, platformRandom())) {
        counts[Math.min(2 * reach + 2, Math.max(0, x + reach + 1))]!++;
      }
      // Cells that hardly anything falls into would make χ² another distribution; they must be hardly hit.
      let [statistic, cells] = [0, 0];
      for (const [at, probability] of expected.entries()) {
        const mean = count * probability;
        if (mean < 10) expect(counts[at]!).toBeLessThan(80);
        else statistic += (counts[at]! - mean) ** 2 / mean;
        if (mean >= 10) cells++;
      }
      expect(statistic).toBeLessThan(chiSquareBound(cells));
    },
  );

  test.each([789.63, 12634.1, 1e6, MAX_SIGMA])("σ %d: χ² of a hundred bins against the normal", (sigma) => {
    // From some hundred steps on, discrete and continuous differ by less than any sample shows.
    const count = 50_000;
    const counts = new Array<number>(100).fill(0);
    let [sum, squares] = [0, 0];
    for (const x of discreteGaussian(count, sigma ** 2, platformRandom())) {
      counts[Math.min(99, Math.floor(100 * normalBelow(x / sigma)))]!++;
      sum += x / sigma;
      squares += (x / sigma) ** 2;
    }
    const statistic = counts.reduce((total, it) => total + (it - count / 100) ** 2 / (count / 100), 0);
    expect(statistic).toBeLessThan(chiSquareBound(99));
    expect(Math.abs(sum)).toBeLessThan(8 * Math.sqrt(count));
    expect(Math.abs(squares - count)).toBeLessThan(8 * Math.sqrt(2 * count));
  });

  test("the same bytes give what the slow twin makes of them, at any variance", () => {
    const variances = fc.oneof(
      fc.integer({ min: 1, max: 10 ** 4 }).map((value) => [value, 1] as const),
      fc.tuple(fc.integer({ min: 1, max: 10 ** 6 }), fc.constantFrom(2, 8, 1024, 2 ** 20)),
    );
    fc.assert(
      fc.property(variances, fc.string(), ([p, q], seed) => {
        const slowly = wordsOf(knownBytes(seed));
        const slow = Array.from({ length: 30 }, () => Number(slowGaussian(slowly, BigInt(p), BigInt(q))));
        expect([...discreteGaussian(30, p / q, knownBytes(seed))]).toEqual(slow);
      }),
      { numRuns: 100 },
    );
  });

  test("where γ is a whole number but for rounding, integers decide which", () => {
    // For |y| = 4 and t = 2, γ is 1 at σ² = 12 − √80. Around it float64 cannot tell 1 from just below.
    const ulp = 2 ** -51;
    for (let step = -4; step <= 4; step++) {
      const variance = 12 - Math.sqrt(80) + step * ulp;
      const slowly = wordsOf(knownBytes(`${step}`));
      const [p, q] = [BigInt(variance * 2 ** 51), 2n ** 51n];
      const slow = Array.from({ length: 500 }, () => Number(slowGaussian(slowly, p, q)));
      expect(slow.filter((value) => Math.abs(value) === 4).length).toBeGreaterThan(5);
      expect([...discreteGaussian(500, variance, knownBytes(`${step}`))]).toEqual(slow);
    }
  });

  test.each([0, -1, Number.NaN, Infinity, 2 * MAX_SIGMA ** 2])("a variance of %d is refused", (variance) => {
    expect(() => discreteGaussian(1, variance, platformRandom())).toThrow(
      /variance of the noise: expected above 0/,
    );
  });
});

/** Φ(x), by Simpson's rule over the density. */
function normalBelow(x: number): number {
  const steps = 64;
  const density = (at: number) => Math.exp(-(at ** 2) / 2) / Math.sqrt(2 * Math.PI);
  let sum = density(0) + density(x);
  for (let i = 1; i < steps; i++) sum += density((x * i) / steps) * (i % 2 === 1 ? 4 : 2);
  return 0.5 + (sum * x) / (3 * steps);
}
