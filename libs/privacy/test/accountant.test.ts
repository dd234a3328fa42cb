import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { checkVectors, EPSILONS } from "../../../claims/support/privacy/vectors.ts";
import { composeRdp, epsilonOf, epsilonOfRho, noiseFor, ORDERS, rdpOf, rhoOf } from "../src/accountant.ts";
import { logErfc } from "../src/special.ts";

describe("what others compute", () => {
  test("every ε of the table, to 1e-6", () => {
    const { errors } = checkVectors();
    const off = EPSILONS.filter((_, at) => !(errors[at]! <= 1e-6));
    expect(off).toEqual([]);
  });

  test("Kairouz et al. 2021: scale, local noise and ε at 20, 16 and 14 bits, to the digits", () => {
    expect(checkVectors().wrongGrids).toEqual([]);
  });
});

/**
 * ln A_α by the definition: the mean over N(0, σ²) of the likelihood ratio to the power α, summed on a fine
 * grid.
 */
function slowRdp(order: number, sigma: number, q: number): number {
  const step = sigma / 200;
  let sum = 0;
  for (let x = -12 * sigma; x < order + 12 * sigma; x += step) {
    const density = Math.exp(-(x ** 2) / (2 * sigma ** 2)) / (sigma * Math.sqrt(2 * Math.PI));
    sum += step * density * (1 - q + q * Math.exp((2 * x - 1) / (2 * sigma ** 2))) ** order;
  }
  return Math.log(sum) / (order - 1);
}

describe("Mironov et al. 2019, section 3.3", () => {
  test.each([
    [1, 0.1],
    [2, 0.04],
    [0.8, 0.01],
    [4, 0.5],
  ])("σ %d, q %d: signed series and whole orders are the integral, sizes are above it", (sigma, q) => {
    const [signed, sizes] = (["signed", "sizes"] as const).map((series) =>
      rdpOf({ noiseMultiplier: sigma, sampling: q, steps: 1, series }),
    );
    const some = ORDERS.map((order, at) => [order, at] as const).filter(
      ([order]) => order >= 2 && order <= 12,
    );
    for (const [order, at] of some) {
      const exact = slowRdp(order, sigma, q);
      expect(Math.abs(signed![at]! / exact - 1)).toBeLessThan(1e-7);
      expect(sizes![at]! / exact - 1).toBeGreaterThan(-1e-7);
      expect(sizes![at]! / exact - 1).toBeLessThan(0.5);
    }
  });

  test("ln erfc where erfc is in tables, and where it underflows", () => {
    // Abramowitz and Stegun 1964, table 7.1; and the asymptotic series 7.1.23 for 40.
    expect(Math.exp(logErfc(0.5))).toBeCloseTo(0.4795001222, 10);
    expect(Math.exp(logErfc(-1))).toBeCloseTo(1.8427007929, 10);
    const [series, fraction] = [2 - 1e-9, 2].map((x) => Math.exp(logErfc(x)));
    expect(series! / fraction!).toBeCloseTo(1 + 4.42e-9, 10);
    expect(Math.exp(logErfc(2))).toBeCloseTo(0.00467773498, 10);
    const far = -1600 - Math.log(40 * Math.sqrt(Math.PI)) + Math.log(1 - 1 / 3200 + 3 / 3200 ** 2);
    expect(logErfc(40)).toBeCloseTo(far, 8);
  });
});

const mechanisms = fc.record({
  noiseMultiplier: fc.double({ min: 0.4, max: 20, noNaN: true }),
  sampling: fc.double({ min: 0.001, max: 0.9, noNaN: true }),
  steps: fc.integer({ min: 1, max: 1000 }),
});

describe("what must hold for any mechanism", () => {
  test("more noise, fewer steps and a larger δ never cost more", () => {
    fc.assert(
      fc.property(mechanisms, (one) => {
        const at = (change: Partial<typeof one>, delta = 1e-5) =>
          epsilonOf(rdpOf({ ...one, ...change }), delta).epsilon;
        const here = at({});
        expect(at({ noiseMultiplier: 1.1 * one.noiseMultiplier })).toBeLessThanOrEqual(here);
        expect(at({ steps: one.steps - 1 })).toBeLessThanOrEqual(here);
        expect(at({}, 1e-4)).toBeLessThanOrEqual(here);
        expect(here).toBeGreaterThanOrEqual(0);
      }),
      { numRuns: 20 },
    );
  });

  test("sampling helps, the rarer the more, the discrete Gaussian less than the Gaussian", () => {
    fc.assert(
      fc.property(mechanisms, (one) => {
        const [gaussian, discrete] = (["gaussian", "discrete"] as const).map((noise) =>
          rdpOf({ ...one, noise }),
        );
        const whole = rdpOf({ ...one, sampling: 1 });
        const rarer = rdpOf({ ...one, sampling: 0.9 * one.sampling });
        for (const [at, order] of ORDERS.entries()) {
          expect(discrete![at]!).toBeLessThanOrEqual(whole[at]! * (1 + 1e-12));
          if (!Number.isInteger(order)) continue;
          expect(discrete![at]! * (1 + 1e-9)).toBeGreaterThanOrEqual(gaussian![at]!);
          expect(rarer[at]!).toBeLessThanOrEqual(gaussian![at]! * (1 + 1e-9));
        }
      }),
      { numRuns: 20 },
    );
  });

  test("composition adds: rounds one by one cost what all together do", () => {
    const of = (steps: number) => rdpOf({ noiseMultiplier: 1.2, sampling: 0.05, steps });
    const parts = composeRdp(of(3), of(4));
    for (const [at, value] of of(7).entries()) expect(parts[at]!).toBeCloseTo(value, 12);
  });
});

describe("zero-concentrated differential privacy", () => {
  test("ρ gives the ε that unsampled RDP gives", () => {
    const rdp = rdpOf({ noiseMultiplier: 3, sampling: 1, steps: 20 });
    expect(epsilonOfRho(20 * rhoOf(3), 1e-6)).toBeCloseTo(epsilonOf(rdp, 1e-6).epsilon, 12);
  });

  test("nothing spent is 0, no noise at all is without bound, a negative ρ is refused", () => {
    expect(epsilonOfRho(0, 1e-5)).toBe(0);
    expect(epsilonOfRho(Infinity, 1e-5)).toBe(Infinity);
    expect(() => epsilonOfRho(-0.1, 1e-5)).toThrow(/rho: expected at least 0/);
    expect(() => epsilonOfRho(Number.NaN, 1e-5)).toThrow(/rho/);
  });
});

describe("the noise for a target", () => {
  test.each([
    { epsilon: 4, delta: 1e-5, steps: 50, sampling: 1 },
    { epsilon: 0.5, delta: 1e-6, steps: 1, sampling: 1 },
    { epsilon: 2, delta: 1e-5, steps: 200, sampling: 0.05 },
    { epsilon: 2, delta: 1e-5, steps: 200, sampling: 0.05, noise: "discrete" as const },
  ])("is enough, and a little less is not: %o", ({ epsilon, delta, ...rest }) => {
    const noiseMultiplier = noiseFor({ epsilon, delta, ...rest });
    const at = (z: number) => epsilonOf(rdpOf({ ...rest, noiseMultiplier: z }), delta).epsilon;
    expect(at(noiseMultiplier)).toBeLessThanOrEqual(epsilon);
    expect(at(noiseMultiplier * (1 - 1e-8))).toBeGreaterThan(epsilon);
  });

  test("an ε that the orders cannot prove is refused by name", () => {
    const impossible = { epsilon: 1e-4, delta: 1e-9, steps: 1, sampling: 1 };
    expect(() => noiseFor(impossible)).toThrow(/epsilon: expected more than 0\.01/);
  });
});

test.each([
  [{ noiseMultiplier: 0 }, /noise multiplier: expected a positive number/],
  [{ sampling: 1.1 }, /sampling: expected a probability/],
  [{ steps: 1.5 }, /steps: expected a natural number/],
  [{ sampling: Number.NaN }, /sampling/],
])("numbers that describe no mechanism are refused: %o", (change, message) => {
  expect(() => rdpOf({ noiseMultiplier: 1, sampling: 1, steps: 1, ...change })).toThrow(message);
});

test.each([0, 1, Number.NaN])("δ %d is refused", (delta) => {
  expect(() => epsilonOfRho(1, delta)).toThrow(/delta: expected above 0 and below 1/);
});
