import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { type CohortMean, type Combine, checkCohortNorm, combine } from "../src/combine.ts";

const RULES: readonly Combine[] = [
  "mean",
  "median",
  "geometric-median",
  { name: "trimmed-mean", trim: 0.25 },
];

const of = (...rows: readonly (readonly number[])[]): CohortMean[] =>
  rows.map((row) => ({ mean: Float32Array.from(row), weight: 1 }));

const value = fc.double({ min: -10, max: 10, noNaN: true }).map(Math.fround);
const cohort = fc.record({
  mean: fc.array(value, { minLength: 3, maxLength: 3 }).map((row) => Float32Array.from(row)),
  weight: fc.integer({ min: 1, max: 1000 }),
});
const cohorts = fc.array(cohort, { minLength: 1, maxLength: 9 });

function close(got: Float32Array, wanted: ArrayLike<number>, tolerance: number): void {
  expect(got.length).toBe(wanted.length);
  got.forEach((at, i) => {
    expect(Math.abs(at - wanted[i]!)).toBeLessThanOrEqual(tolerance);
  });
}

describe("by hand", () => {
  test("mean: by weight", () => {
    const means = [
      { mean: Float32Array.of(1, 0), weight: 3 },
      { mean: Float32Array.of(5, 4), weight: 1 },
    ];
    expect([...combine(means, "mean")]).toEqual([2, 1]);
  });

  test("median: the middle of each coordinate, and of an even number the middle two's mean", () => {
    expect([...combine(of([1, 9], [2, 8], [30, -7]), "median")]).toEqual([2, 8]);
    expect([...combine(of([1, 1], [2, 8], [4, 9], [30, -7]), "median")]).toEqual([3, 4.5]);
  });

  test("trimmed mean: floor(trim·m) off at each end, also where trim·m is not exact", () => {
    const five = of([1], [2], [3], [4], [90]);
    expect([...combine(five, { name: "trimmed-mean", trim: 0.2 })]).toEqual([3]);
    expect([...combine(five, { name: "trimmed-mean", trim: 0.19 })]).toEqual([20]);
    const ten = of(...Array.from({ length: 10 }, (_, i) => [i < 7 ? 0 : 1000]));
    expect([...combine(ten, { name: "trimmed-mean", trim: 0.3 })]).toEqual([0]);
  });

  test("geometric median: where a convex quadrilateral's diagonals cross", () => {
    close(combine(of([0, 0], [4, 4], [4, 0], [0, 1]), "geometric-median"), [0.8, 0.8], 1e-4);
  });

  test("geometric median: the centre of an even triangle, the vertex of a flat one", () => {
    const even = of([0, 0], [1, 0], [0.5, Math.sqrt(3) / 2]);
    close(combine(even, "geometric-median"), [0.5, Math.sqrt(3) / 6], 1e-4);
    // An angle above 120° at (0, 0).
    close(combine(of([0, 0], [10, 1], [-10, 1]), "geometric-median"), [0, 0], 1e-3);
  });

  test("geometric median: nothing outweighs more than half at one point", () => {
    expect([...combine(of([1, 2], [1, 2], [1e6, -1e6]), "geometric-median")]).toEqual([1, 2]);
  });
});

describe("slow twins", () => {
  test("mean, median and trimmed mean are those of each coordinate by itself", () => {
    fc.assert(
      fc.property(cohorts, fc.integer({ min: 0, max: 49 }), (means, percent) => {
        const columns = [0, 1, 2].map((i) => means.map(({ mean }) => mean[i]!));
        const total = means.reduce((sum, { weight }) => sum + weight, 0);
        const weighed = columns.map((column) =>
          column.reduce((sum, x, at) => sum + (x * means[at]!.weight) / total, 0),
        );
        close(combine(means, "mean"), weighed, 1e-5);

        const average = (row: number[]) => row.reduce((sum, x) => sum + x, 0) / row.length;
        const sorted = columns.map((column) => [...column].sort((a, b) => a - b));
        const m = means.length;
        const middle = sorted.map((row) => (row[Math.ceil(m / 2) - 1]! + row[Math.floor(m / 2)]!) / 2);
        close(combine(means, "median"), middle, 1e-5);

        const cut = Math.floor((percent * m) / 100);
        const trimmed = sorted.map((row) => average(row.slice(cut, m - cut)));
        close(combine(means, { name: "trimmed-mean", trim: percent / 100 }), trimmed, 1e-5);
      }),
    );
  });

  test("no point near the geometric median or at a cohort has a smaller sum of distances", () => {
    fc.assert(
      fc.property(cohorts, fc.array(cohort, { minLength: 8, maxLength: 8 }), (means, directions) => {
        const total = (at: Float32Array) => means.reduce((sum, { mean }) => sum + distance(at, mean), 0);
        const found = combine(means, "geometric-median");
        const near = directions.map(({ mean }) => found.map((x, i) => x + mean[i]! / 200));
        for (const other of [...near, ...means.map(({ mean }) => mean)])
          expect(total(found)).toBeLessThanOrEqual(total(other) + 1e-3);
      }),
    );
  });
});

describe.each(RULES)("%o", (how) => {
  test("one cohort: its own mean, bit for bit", () => {
    fc.assert(
      fc.property(cohort, (only) => {
        expect(combine([only], how)).toBe(only.mean);
      }),
    );
  });

  test("the order of the cohorts does not matter", () => {
    const shuffled = cohorts.chain((means) =>
      fc.tuple(
        fc.constant(means),
        fc.shuffledSubarray(means, { minLength: means.length, maxLength: means.length }),
      ),
    );
    fc.assert(
      fc.property(shuffled, ([means, others]) => {
        close(combine(means, how), combine(others, how), 1e-4);
      }),
    );
  });

  test("cohorts that agree are agreed with, and no argument is written to", () => {
    fc.assert(
      fc.property(cohort, fc.integer({ min: 2, max: 6 }), ({ mean }, count) => {
        const before = mean.slice();
        close(combine(Array(count).fill({ mean, weight: 7 }), how), before, 1e-5);
        expect(mean).toEqual(before);
      }),
    );
  });
});

describe("fewer than half arbitrary cohorts", () => {
  const size = fc.constantFrom(1, 1e3, 1e9);
  const attack = fc
    .tuple(fc.array(cohort, { minLength: 3, maxLength: 7 }), fc.array(cohort, { maxLength: 6 }), size)
    .map(([honest, some, factor]) => {
      const bad = some
        .slice(0, honest.length - 1)
        .map(({ mean }) => ({ mean: mean.map((x) => x * factor), weight: 1e9 }));
      return { honest, bad };
    });

  test("cannot move the median beyond the honest ones, at any coordinate", () => {
    fc.assert(fc.property(attack, ({ honest, bad }) => within([...bad, ...honest], honest, "median")));
  });

  test("nor the trimmed mean, as long as they are no more than it cuts off", () => {
    fc.assert(
      fc.property(attack, ({ honest, bad }) => {
        const trim = bad.length / (honest.length + bad.length);
        within([...bad, ...honest], honest, { name: "trimmed-mean", trim });
      }),
    );
  });

  test("nor the geometric median beyond 2(m−q)/(m−2q) times the honest ones' radius", () => {
    fc.assert(
      fc.property(attack, ({ honest, bad }) => {
        const all = [...honest, ...bad];
        const centre = combine(
          honest.map(({ mean }) => ({ mean, weight: 1 })),
          "mean",
        );
        const radius = Math.max(...honest.map(({ mean }) => distance(mean, centre)));
        const bound = (2 * honest.length) / (all.length - 2 * bad.length);
        const moved = distance(combine(all, "geometric-median"), centre);
        expect(moved).toBeLessThanOrEqual(bound * radius * 1.001 + 1e-4);
      }),
    );
  });

  test("but the mean goes wherever one of them wants it", () => {
    const [moved] = combine([...of([1], [1]), { mean: Float32Array.of(1e6), weight: 1 }], "mean");
    expect(moved).toBeGreaterThan(3e5);
  });

  function within(all: CohortMean[], honest: CohortMean[], how: Combine): void {
    combine(all, how).forEach((x, i) => {
      const column = honest.map(({ mean }) => mean[i]!);
      expect(x).toBeGreaterThanOrEqual(Math.min(...column) - 1e-5);
      expect(x).toBeLessThanOrEqual(Math.max(...column) + 1e-5);
    });
  }
});

describe("the norm of a cohort's mean", () => {
  test("passes at the clip norm and within the slack, and is refused beyond", () => {
    const mean = Float32Array.of(3, 4);
    expect(checkCohortNorm(mean, { clipNorm: 5, slack: 0 })).toBe(mean);
    expect(checkCohortNorm(mean, { clipNorm: 4.5, slack: 0.5 })).toBe(mean);
    expect(() => checkCohortNorm(mean, { clipNorm: 4.5, slack: 0.25 })).toThrow(
      "mean of a cohort: expected L2 norm of at most 4.5 and 0.25 for rounding, got 5.000",
    );
    expect(() => checkCohortNorm(Float32Array.of(Number.NaN), { clipNorm: 1, slack: 1 })).toThrow();
  });
});

function distance(a: Float32Array, b: Float32Array): number {
  return Math.hypot(...a.map((x, i) => x - b[i]!));
}
