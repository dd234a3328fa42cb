import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { walshHadamard } from "../src/hadamard.ts";
import { walshHadamardTwin } from "../src/twins/hadamard.ts";
import { expectSame, someWords } from "./oracle.ts";

/** The definition, in float64: Σ_j (−1)^popcount(i AND j) x_j / √d. */
function slowTransform(x: Float32Array): Float64Array {
  const odd = (n: number): boolean => n !== 0 && odd(n & (n - 1)) === false;
  return Float64Array.from(x, (_, i) => {
    const signed = Array.from(x, (value, j) => (odd(i & j) ? -value : value));
    return signed.reduce((sum, value) => sum + value, 0) / Math.sqrt(x.length);
  });
}

function someFloats(length: number, seed: number): Float32Array {
  return Float32Array.from(someWords(length, seed), (word) => word / 2 ** 31 - 1);
}

describe("the Walsh–Hadamard transform", () => {
  test("by hand: four coordinates", () => {
    const x = Float32Array.of(1, 2, 3, 4);
    walshHadamard(x);
    expect([...x]).toEqual([5, -1, -2, 0]);
  });

  test("compiled code and twin are the definition, within float32", () => {
    fc.assert(
      fc.property(fc.integer({ min: 0, max: 9 }), fc.nat(), (log, seed) => {
        const x = someFloats(2 ** log, seed);
        const expected = slowTransform(x);
        for (const transform of [walshHadamard, walshHadamardTwin]) {
          const y = x.slice();
          transform(y);
          y.forEach((value, i) => {
            expect(Math.abs(value - expected[i]!)).toBeLessThan(2e-6);
          });
        }
      }),
      { numRuns: 40 },
    );
  });

  // 2^14 are one piece; 2^15 to 2^18 are 2 to 16 rows of it; 2^19 takes a third turn.
  test.each([0, 1, 2, 3, 4, 5, 10, 13, 14, 15, 17, 18, 19])(
    "2^%d coordinates: the bits are the twin's, and twice is where it began",
    (log) => {
      const x = someFloats(2 ** log, log);
      const [fast, slow] = [x.slice(), x.slice()];
      walshHadamard(fast);
      walshHadamardTwin(slow);
      expectSame(fast, slow);
      walshHadamard(fast);
      const worst = fast.reduce((most, value, i) => Math.max(most, Math.abs(value - x[i]!)), 0);
      expect(worst).toBeLessThan(2e-6);
    },
  );

  test("keeps the L2 norm, and spreads one coordinate over all", () => {
    const x = new Float32Array(2 ** 12);
    x[77] = -3;
    walshHadamard(x);
    expect(new Set(x.map(Math.abs))).toEqual(new Set([3 / 64]));
  });

  test("a length that is no power of two is refused", () => {
    for (const length of [0, 3, 24])
      expect(() => walshHadamard(new Float32Array(length))).toThrow(`a power of two to 2^26, got ${length}`);
  });
});
