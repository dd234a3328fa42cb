import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { platformRandom, seededRandom } from "../src/random.ts";

const draws = (random: { uniform(): number }, count: number) =>
  Array.from({ length: count }, () => random.uniform());

describe("seededRandom", () => {
  test("same seed, same stream; another seed, another; a number is its text", () => {
    expect(draws(seededRandom(7), 20)).toEqual(draws(seededRandom(7), 20));
    expect(draws(seededRandom(7), 20)).toEqual(draws(seededRandom("7"), 20));
    expect(draws(seededRandom(7), 20)).not.toEqual(draws(seededRandom(8), 20));
  });

  test("streams do not change between versions: the first draws of seed 1 are these", () => {
    expect(draws(seededRandom(1), 3)).toMatchInlineSnapshot(`
      [
        0.2171868121249887,
        0.590894457515821,
        0.4586405808273707,
      ]
    `);
  });

  test("a fork depends on seed and label alone, not on what was drawn", () => {
    const used = seededRandom(3);
    draws(used, 5);
    expect(draws(used.fork("a"), 9)).toEqual(draws(seededRandom(3).fork("a"), 9));
    expect(draws(used.fork("a"), 9)).not.toEqual(draws(used.fork("b"), 9));
    expect(draws(used.fork("a").fork("b"), 9)).toEqual(draws(seededRandom("3/a/b"), 9));
  });

  test("uniform and normal have the mean and variance of their names, within 5 standard errors", () => {
    const random = seededRandom("moments");
    const count = 40_000;
    const moments = (next: () => number) => {
      const values = Array.from({ length: count }, next);
      const mean = values.reduce((sum, value) => sum + value, 0) / count;
      return [mean, values.reduce((sum, value) => sum + (value - mean) ** 2, 0) / count];
    };
    const [mean, variance] = moments(random.uniform);
    expect(Math.abs(mean! - 1 / 2)).toBeLessThan(5 * Math.sqrt(1 / 12 / count));
    expect(Math.abs(variance! - 1 / 12)).toBeLessThan(5 * Math.sqrt(1 / 180 / count));
    const [normalMean, normalVariance] = moments(random.normal);
    expect(Math.abs(normalMean!)).toBeLessThan(5 * Math.sqrt(1 / count));
    expect(Math.abs(normalVariance! - 1)).toBeLessThan(5 * Math.sqrt(2 / count));
  });

  test("below covers [0, bound) evenly", () => {
    const random = seededRandom("dice");
    const seen = new Array<number>(6).fill(0);
    for (let i = 0; i < 12_000; i++) seen[random.below(6)]!++;
    // Chi-squared with 5 degrees of freedom: 25.7 is exceeded once in 10,000.
    expect(seen.reduce((sum, count) => sum + (count - 2000) ** 2 / 2000, 0)).toBeLessThan(25.7);
    expect(random.below(1)).toBe(0);
  });

  test("shuffle permutes, leaves its argument alone, and reaches every order alike", () => {
    fc.assert(
      fc.property(fc.array(fc.nat()), fc.nat(), (items, seed) => {
        const before = [...items];
        const out = seededRandom(seed).shuffle(items);
        expect(items).toEqual(before);
        expect([...out].sort()).toEqual(before.sort());
      }),
    );
    const orders = new Map<string, number>();
    const random = seededRandom("orders");
    for (let i = 0; i < 6000; i++) {
      const order = random.shuffle([1, 2, 3]).join("");
      orders.set(order, (orders.get(order) ?? 0) + 1);
    }
    expect(orders.size).toBe(6);
    expect([...orders.values()].reduce((sum, count) => sum + (count - 1000) ** 2 / 1000, 0)).toBeLessThan(
      25.7,
    );
  });
});

describe("platformRandom", () => {
  test("gives as many bytes as asked, beyond one call's 65,536 too, and not the same ones twice", () => {
    const random = platformRandom();
    for (const length of [0, 1, 32, 65_536, 65_537, 200_000])
      expect(random.bytes(length).length).toBe(length);
    expect(random.bytes(32)).not.toEqual(random.bytes(32));
    const long = random.bytes(200_000);
    for (const from of [0, 65_536, 131_072, 199_936])
      expect(long.subarray(from, from + 64).some((b) => b)).toBe(true);
  });
});
