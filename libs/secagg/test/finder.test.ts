import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { findGraph, type GraphNeed, type GraphSize } from "../src/finder.ts";
import { VECTORS } from "./finder-vectors.ts";

describe("degree and threshold of the sparse graph (Bell et al. 2020, section 3.3)", () => {
  it.each(VECTORS)("%i members, %f corrupt, %f lost, malicious %s: k = %i, t = %i", (...vector) => {
    const [n, corrupt, lost, malicious, degree, threshold] = vector;
    expect(findGraph({ n, corrupt, lost, malicious })).toEqual({ degree, threshold });
  });

  it("agrees with tails of whole numbers, at every small size", () => {
    const need = fc.record({
      n: fc.integer({ min: 3, max: 44 }),
      marked: fc.tuple(fc.integer({ min: 0, max: 43 }), fc.integer({ min: 0, max: 43 })),
      malicious: fc.boolean(),
    });
    fc.assert(
      fc.property(need, ({ n, marked, malicious }) => {
        const [corrupt, lost] = marked.map((count) => count % n) as [number, number];
        // floor((count / n)·n) loses one member at some n; the finder must not.
        const found = orNone({ n, corrupt: corrupt / n, lost: lost / n, malicious });
        expect(found).toEqual(exactly({ n, corrupt, lost, malicious }));
      }),
      { numRuns: 150 },
    );
  });

  it("agrees with tails of whole numbers where the tails decide", () => {
    for (const [n, corrupt, lost] of [
      [150, 15, 15],
      [200, 20, 20],
      [180, 9, 50],
    ] as const)
      for (const malicious of [false, true])
        expect(orNone({ n, corrupt: corrupt / n, lost: lost / n, malicious })).toEqual(
          exactly({ n, corrupt, lost, malicious }),
        );
  });

  it("asks for no fewer holders where more are corrupt or lost, or may lie", () => {
    const share = fc.integer({ min: 0, max: 20 }).map((percent) => percent / 100);
    fc.assert(
      fc.property(fc.integer({ min: 101, max: 1000 }), share, share, (n, corrupt, lost) => {
        const { degree, threshold } = findGraph({ n, corrupt, lost, malicious: false });
        const lying = findGraph({ n, corrupt, lost, malicious: true });
        expect(lying.degree).toBeGreaterThanOrEqual(degree);
        expect(lying.threshold * 2).toBeGreaterThan(lying.degree);
        const worse = findGraph({ n, corrupt: corrupt + 0.05, lost: lost + 0.05, malicious: false });
        expect(worse.degree).toBeGreaterThanOrEqual(degree);
        expect(degree % 2).toBe(0);
        expect(threshold).toBeLessThanOrEqual(degree);
      }),
      { numRuns: 60 },
    );
  });

  it("names what to change where no degree will do", () => {
    expect(() => findGraph({ n: 1000, corrupt: 0.5, lost: 0.49, malicious: true })).toThrow(
      "a graph for 1000 members: expected a degree below 1000 that withstands 500 corrupt and 490 lost, got" +
        " none. Assume fewer corrupt or lost, or take more members",
    );
  });

  it.each([
    [{ n: 2 }, "graph: members: expected an integer in 3..10000, got 2"],
    [{ corrupt: 1 }, "graph: corrupt: expected a share in [0, 1), got 1"],
    [{ lost: Number.NaN }, "graph: lost: expected a share in [0, 1), got NaN"],
  ])("refuses %o", (wrong, message) => {
    const need = { n: 1000, corrupt: 0.05, lost: 0.05, malicious: true };
    expect(() => findGraph({ ...need, ...wrong })).toThrow(message);
  });
});

function orNone(need: GraphNeed): GraphSize | null {
  try {
    return findGraph(need);
  } catch {
    return null;
  }
}

/** The same by counting draws: every chance is a whole number of draws over C(n, k). */
function exactly({ n, corrupt, lost, malicious }: GraphNeed): GraphSize | null {
  for (let k = 2; k < n; k += 2) {
    const all = choose(n, k);
    // n·(n−k−1)/2 pairs, each cut off with chance C(bad, k)·k!·(n−k)!/n! = C(bad, k)/C(n, k).
    const torn = BigInt(n) * BigInt(n - k - 1) * choose(corrupt + lost, k) * 2n ** 41n;
    if (torn > 0n && torn >= 2n * all) continue;
    const draws = (marked: number, x: number) => choose(marked, x) * choose(n - marked, k - x);
    const sum = (from: number, to: number, term: (x: number) => bigint) => {
      let total = 0n;
      for (let x = from; x <= to; x++) total += term(x);
      return total;
    };
    let most = 0;
    while (sum(most + 1, k, (x) => draws(corrupt, x)) * BigInt(n) * 2n ** 41n > all) most++;
    let fewest = k;
    while (sum(0, fewest - 1, (x) => draws(n - lost, x)) * BigInt(n) * 2n ** 20n > all) fewest--;
    const below = malicious ? Math.max(most, Math.ceil((most + k - 1.25) / 2)) : most;
    if (below < fewest) return { degree: k, threshold: Math.max(below + 1, 2) };
  }
  return null;
}

function choose(n: number, k: number): bigint {
  if (k < 0 || k > n) return 0n;
  let value = 1n;
  for (let i = 1; i <= k; i++) value = (value * BigInt(n - k + i)) / BigInt(i);
  return value;
}
