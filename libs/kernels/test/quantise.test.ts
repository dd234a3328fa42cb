import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { type Rounding, roundWords } from "../src/quantise.ts";
import { roundWordsTwin } from "../src/twins/quantise.ts";
import { expectSame, keys, lengths, opensslStream, someWords } from "./oracle.ts";

/** A float64 as numerator and power of two. */
function exact(value: number): [numerator: bigint, shift: bigint] {
  let shift = 0n;
  let whole = value;
  for (; !Number.isInteger(whole); shift++) whole *= 2;
  return [BigInt(whole), shift];
}

/** The definition in whole numbers: floor, and up where uniform/2^32 < fraction. */
function slowRound(value: number, uniform: number, bits: number): number {
  const [numerator, shift] = exact(value);
  const floor = numerator >> shift;
  const fraction = numerator - (floor << shift);
  const up = BigInt(uniform) << shift < fraction << 32n ? 1n : 0n;
  return Number(BigInt.asUintN(bits, floor + up));
}

function slowRoundWords(values: Float32Array, { factor, limit, bits, key }: Rounding): Uint32Array {
  const uniform = opensslStream(key, values.length);
  return Uint32Array.from(values, (x, i) => {
    const sign = x < 0 ? -1 : 1;
    return slowRound(sign * Math.min(Math.abs(x), limit) * factor, uniform[i]!, bits);
  });
}

const roundings: fc.Arbitrary<Rounding> = fc
  .record({
    steps: fc.double({ min: 0, max: 2 ** 31 - 1, noNaN: true }),
    limit: fc.double({ min: 1e-6, max: 1e6, noNaN: true }),
    bits: fc.integer({ min: 1, max: 32 }),
    key: keys,
  })
  .map(({ steps, limit, bits, key }) => ({ factor: steps / limit, limit, bits, key }))
  .filter(({ factor, limit }) => factor * limit <= 2 ** 31 - 1);

const KEY = Uint8Array.from({ length: 32 }, (_, i) => 7 * i);

describe("roundWords", () => {
  test("compiled code, twin and whole numbers agree on any floats, small, large or beyond the limit", () => {
    const values = fc.float32Array({ maxLength: 40, noNaN: true, noDefaultInfinity: true });
    fc.assert(
      fc.property(values, roundings, (x, at) => {
        const expected = slowRoundWords(x, at);
        expectSame(roundWords(x, at), expected);
        expectSame(roundWordsTwin(x, at), expected);
      }),
      { numRuns: 200 },
    );
  });

  test("over every border of a piece, with values within the limit", () => {
    fc.assert(
      fc.property(lengths, roundings, fc.nat(), (length, at, seed) => {
        const x = Float32Array.from(someWords(length, seed), (word) => (word / 2 ** 31 - 1) * 1.1 * at.limit);
        const expected = slowRoundWords(x, at);
        expectSame(roundWords(x, at), expected);
        expectSame(roundWordsTwin(x, at), expected);
      }),
      { numRuns: 40 },
    );
  });

  test("over a slice's border the dice go on as the mask stream does", () => {
    const x = new Float32Array(2 ** 20 + 3000).fill(0.3);
    const at = { factor: 100.5, limit: 1, bits: 20, key: KEY };
    const [words, twin] = [roundWords(x, at), roundWordsTwin(x, at)];
    expectSame(words, twin);
    expectSame(words.slice(-3000), slowRoundWords(x, at).slice(-3000));
  });

  test("exact on the grid, to the last step of 32 bits", () => {
    const last = 2 ** 31 - 1;
    const at = { factor: last, limit: 1, bits: 32, key: KEY };
    for (const round of [roundWords, roundWordsTwin]) {
      expect([...round(Float32Array.of(1, -1, 0, 9, -9), at)]).toEqual([
        last,
        2 ** 31 + 1,
        0,
        last,
        2 ** 31 + 1,
      ]);
      const steps = Float32Array.from({ length: 100 }, (_, i) => i - 50);
      const words = round(steps, { factor: 3, limit: 50, bits: 9, key: KEY });
      expect([...words]).toEqual(Array.from(steps, (step) => (3 * step) & 511));
    }
  });

  test("without bias: the mean of many roundings of one value is the value", () => {
    const draws = 40_000;
    for (const value of [0.3, -0.3, 2.75]) {
      const words = roundWords(new Float32Array(draws).fill(value), {
        factor: 1,
        limit: 4,
        bits: 32,
        key: KEY,
      });
      const mean = words.reduce((sum, word) => sum + (word | 0), 0) / draws;
      // Five standard errors of a rounding bit.
      expect(Math.abs(mean - value)).toBeLessThan((5 * 0.5) / Math.sqrt(draws));
    }
  });

  test("refuses a key of another length, a width outside 1..32, and steps that no word holds", () => {
    const at = { factor: 1, limit: 1, bits: 20, key: KEY };
    const round = (change: Partial<Rounding>) => roundWords(new Float32Array(1), { ...at, ...change });
    expect(() => round({ key: new Uint8Array(31) })).toThrow("rounding key: expected 32 bytes, got 31");
    expect(() => round({ bits: 33 })).toThrow("1..32");
    expect(() => round({ factor: 2 ** 31 })).toThrow("invariant");
    expect(() => round({ limit: Number.NaN })).toThrow("invariant");
  });
});
