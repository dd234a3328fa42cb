import { platformRandom, seededRandom } from "@tutti/foundation/random";
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { centralNoise, privatise, recover } from "../src/distributed.ts";
import { type GridOptions, gridFor, gridOf, realised, sumGap } from "../src/grid.ts";
import { rotate, rotateBack } from "../src/rotate.ts";
import { chiSquareBound } from "./chance.ts";

const base: GridOptions = {
  ...{ bits: 20, devices: 10, honest: 4, dimension: 100 },
  ...{ clip: 2, noiseMultiplier: 0.5, mode: "distributed" },
};
const rotation = "round 7";
const chance = (seed: string) => ({ rotation, rounding: seededRandom(seed), noise: platformRandom() });

/** A vector of this length in a random direction. */
function direction(length: number, norm: number, seed: string): Float32Array {
  const random = seededRandom(seed);
  const v = Float32Array.from({ length }, () => random.normal());
  const scale = norm / normOf(v);
  return v.map((value) => value * scale);
}

function normOf(v: ArrayLike<number>): number {
  return Math.sqrt(Array.from(v).reduce((sum, value) => sum + value ** 2, 0));
}

/** Words added mod 2^32, as the secure sum does. */
function added(all: readonly Uint32Array[]): Uint32Array {
  return all.reduce((sum, one) => sum.map((word, at) => word + one[at]!));
}

/** Words of this grid without noise: how a test sees what noise hides. */
const quiet = (options: Partial<GridOptions> = {}) => gridOf({ ...base, mode: "central", ...options });

describe("the grid", () => {
  test("fewer than two steps of local noise are refused, with the bits that are enough", () => {
    const coarse = { ...base, bits: 7, devices: 100, honest: 34, dimension: 100_000, noiseMultiplier: 1 };
    expect(() => gridOf(coarse)).toThrow(
      /at least 2 steps of the grid, got 7, where it is 1\.50\. Use 8 bits/,
    );
    expect(gridOf({ ...coarse, bits: 8 }).localSigma).toBeGreaterThanOrEqual(2);
    expect(gridOf({ ...coarse, bits: 7, mode: "central" }).localSigma).toBe(0);
  });

  test("at two steps the sum of discrete Gaussians is one (Kairouz et al. 2021, Theorem 1)", () => {
    expect(sumGap(2, 1000)).toBeLessThan(1e-13);
    expect(sumGap(0.5, 2)).toBeCloseTo(10 * Math.exp(-(Math.PI ** 2) / 4), 10);
  });

  test("the honest devices alone reach z·c, in real units", () => {
    const grid = gridOf(base);
    expect((grid.localSigma / grid.scale) * Math.sqrt(base.honest)).toBeCloseTo(0.5 * 2, 12);
    expect(gridOf({ ...base, mode: "local" }).localSigma / gridOf({ ...base, mode: "local" }).scale).toBe(1);
    const central = gridOf({ ...base, mode: "central" });
    expect([central.localSigma, central.centralSigma / central.scale]).toEqual([0, 1]);
  });

  test("what is realised counts honest survivors, and less than z by what rounding may add", () => {
    const grid = gridOf(base);
    const { noiseMultiplier, rho } = realised(grid, 6, 2);
    expect(noiseMultiplier).toBeLessThan(0.5);
    expect(noiseMultiplier / 0.5).toBeGreaterThan(1 - 1e-4);
    expect(rho).toBe(1 / (2 * noiseMultiplier ** 2));
    expect(realised(grid, 10, 2).noiseMultiplier).toBeCloseTo(noiseMultiplier * Math.SQRT2, 12);
    expect(realised(grid, 2, 2)).toEqual({ noiseMultiplier: 0, rho: Infinity });
    const local = gridOf({ ...base, mode: "local" });
    expect(realised(local, 10, 9)).toEqual(realised(local, 3, 0));
  });

  test("gridFor: what is realised is what was asked for, and not much more; too few bits are refused", () => {
    for (const bits of [9, 10, 14, 20]) {
      const options = { ...base, bits, noiseMultiplier: 3 };
      const got = realised(gridFor(options), base.honest, 0).noiseMultiplier;
      expect(got).toBeGreaterThanOrEqual(3);
      expect(got).toBeLessThan(3 * (1 + 1e-9));
    }
    const coarse = { ...base, bits: 5, mode: "central", dimension: 2 ** 20, noiseMultiplier: 3 } as const;
    expect(() => gridFor(coarse)).toThrow(
      /bits: expected so many that rounding leaves a noise multiplier of 3.*5\. Use \d+ bits/,
    );
  });

  test.each([
    [{ bits: 3 }, /bits: expected an integer in 4\.\.28/],
    [{ honest: 11 }, /honest devices/],
    [{ dimension: 0 }, /dimension/],
    [{ clip: 0 }, /clip norm: expected a positive number/],
    [{ noiseMultiplier: Number.NaN }, /noise multiplier/],
    [
      { bits: 28, devices: 1, honest: 1, dimension: 2 ** 20, noiseMultiplier: 1e-3 },
      /bits: expected so few .* at most 1073741824 steps/,
    ],
    [{ bits: 4, devices: 16, honest: 5 }, /bits: expected more for 16 devices/],
  ])("options out of range are refused by name: %o", (change, message) => {
    expect(() => gridOf({ ...base, ...change })).toThrow(message);
  });
});

describe("the rotation", () => {
  test("keeps length, comes back, spreads a single spike, and depends on the seed", () => {
    fc.assert(
      fc.property(fc.integer({ min: 1, max: 300 }), fc.string(), (length, seed) => {
        const v = direction(length, 3, seed);
        const d = 2 ** Math.ceil(Math.log2(length));
        const rotated = rotate(v, d, seed);
        expect(normOf(rotated)).toBeCloseTo(3, 4);
        const back = rotateBack(rotated, seed);
        for (let i = 0; i < d; i++) expect(back[i]!).toBeCloseTo(v[i] ?? 0, 4);
      }),
    );
    const spike = new Float32Array(256);
    spike[3] = 16;
    expect([...rotate(spike, 256, "a")].every((value) => Math.abs(value) === 1)).toBe(true);
    expect(rotate(spike.fill(1), 256, "a")).not.toEqual(rotate(spike, 256, Uint8Array.of(1)));
  });
});

describe("privatise and recover", () => {
  test("without noise the sum comes back to one step per device", () => {
    const grid = quiet();
    const vectors = Array.from({ length: 10 }, (_, at) => direction(100, 1 + at / 10, `v${at}`));
    const sum = added(vectors.map((v, at) => privatise(v, grid, chance(`r${at}`))));
    const real = vectors.reduce((total, v) => total.map((value, at) => value + v[at]!));
    const back = recover(sum, grid, { rotation, length: 100 });
    const off = back.map((value, at) => value - real[at]!);
    expect(normOf(off)).toBeLessThan((Math.sqrt(128) * 10) / grid.scale + 1e-4);
  });

  test("words fit the bits, and higher bits of a sum do not matter", () => {
    const grid = gridOf({ ...base, bits: 16 });
    const words = privatise(direction(100, 2, "x"), grid, chance("x"));
    expect(words.length).toBe(128);
    expect(Math.max(...words)).toBeLessThan(2 ** 16);
    const dirty = words.map((word, at) => word + 2 ** 16 * at);
    const options = { rotation, length: 100 };
    expect(recover(dirty, grid, options)).toEqual(recover(words, grid, options));
  });

  test("no integer vector is longer than Δ, where a tenth of all draws would be", () => {
    const d = 1024;
    const grid = quiet({
      ...{ bits: 4, devices: 1, honest: 1, dimension: d },
      clip: 1,
      noiseMultiplier: 0.001,
    });
    // Halfway between steps everywhere, and just as long as is allowed: the widest that rounding can be.
    const halves = Float32Array.from({ length: d }, (_, at) => (at < 0.64 * d ? 1.5 : 2.5) / grid.scale);
    expect(normOf(halves)).toBeLessThan(1);
    expect(normOf(halves)).toBeGreaterThan(0.98);
    const v = rotateBack(halves, rotation);
    const squares = Array.from({ length: 300 }, (_, at) => {
      const words = privatise(v, grid, chance(`r${at}`));
      return Array.from(words, (word) => ((word << 28) >> 28) ** 2).reduce((sum, value) => sum + value, 0);
    });
    expect(Math.max(...squares)).toBeLessThanOrEqual(grid.sensitivity ** 2);
    expect(Math.max(...squares)).toBeGreaterThan(0.99 * grid.sensitivity ** 2);
  });

  test("a vector beyond c is cut to c, not let through", () => {
    const grid = quiet();
    const [long, cut] = [direction(100, 50, "same"), direction(100, 2, "same")];
    const back = recover(privatise(long, grid, chance("a")), grid, { rotation, length: 100 });
    expect(normOf(back)).toBeLessThan(2 + 0.01);
    for (let i = 0; i < 100; i++) expect(back[i]!).toBeCloseTo(cut[i]!, 2);
  });

  test.each([Number.NaN, Infinity])("a %d is a Fault that says where", (value) => {
    const v = new Float32Array(100);
    v[7] = value;
    expect(() => privatise(v, quiet(), chance("a"))).toThrow(/finite values, got .* at coordinate 7/);
  });

  test("too long a vector, and a sum of another length, are refused", () => {
    expect(() => privatise(new Float32Array(129), quiet(), chance("a"))).toThrow(/at most 128 coordinates/);
    const read = () => recover(new Uint32Array(64), quiet(), { rotation, length: 10 });
    expect(read).toThrow(/sum: expected 128 words, got 64/);
  });
});

describe("the noise that is really there", () => {
  const options = { ...base, dimension: 4096, bits: 18 } as const;

  /** Variance of the words' noise over its expectation, tested as χ² of 4096 degrees on both sides. */
  function expectVariance(words: Uint32Array, bits: number, variance: number): void {
    const drop = 32 - bits;
    const squares = Array.from(words, (word) => ((word << drop) >> drop) ** 2);
    const statistic = squares.reduce((sum, value) => sum + value, 0) / variance;
    expect(statistic).toBeLessThan(chiSquareBound(4096));
    expect(statistic).toBeGreaterThan(2 * 4096 - chiSquareBound(4096) + 60);
  }

  test.each(["distributed", "local"] as const)("mode %s: each device adds its own σ", (mode) => {
    const grid = gridOf({ ...options, mode });
    const words = privatise(new Float32Array(4096), grid, chance("zero"));
    expectVariance(words, 18, grid.localSigma ** 2);
  });

  test("mode distributed: the sum has the noise of all, at z·c or more for the honest ones", () => {
    const grid = gridOf(options);
    const all = Array.from({ length: 4 }, (_, at) =>
      privatise(new Float32Array(4096), grid, chance(`${at}`)),
    );
    expectVariance(added(all), 18, 4 * grid.localSigma ** 2);
    const { noiseMultiplier } = realised(grid, 4, 0);
    expectVariance(added(all), 18, (noiseMultiplier * grid.sensitivity) ** 2);
  });

  test("mode central: devices add none, the aggregator the whole", () => {
    const grid = gridOf({ ...options, mode: "central" });
    const words = privatise(new Float32Array(4096), grid, chance("zero"));
    expect(words.every((word) => word === 0)).toBe(true);
    expectVariance(centralNoise(words, grid, platformRandom()), 18, grid.centralSigma ** 2);
    expect(() => centralNoise(words, gridOf(options), platformRandom())).toThrow(/other modes/);
  });

  test("two devices with the same vector and the same public seeds send different words", () => {
    const grid = gridOf(options);
    const v = direction(4096, 1, "v");
    expect(privatise(v, grid, chance("a"))).not.toEqual(privatise(v, grid, chance("a")));
  });
});
