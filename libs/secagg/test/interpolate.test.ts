import fc from "fast-check";
import { combine, split } from "shamir-secret-sharing";
import { describe, expect, test } from "vitest";
import { interpolateAtZero } from "../src/interpolate.ts";

const bytes = (length: number) => fc.uint8Array({ minLength: length, maxLength: length });

describe("the value at 0 (Shamir 1979)", () => {
  test("is what the package that split combines, for any points, also none of one polynomial", async () => {
    const points = fc.integer({ min: 2, max: 255 }).chain((count) => {
      const xs = fc.uniqueArray(fc.integer({ min: 1, max: 255 }), { minLength: count, maxLength: count });
      return fc.tuple(xs, fc.array(bytes(4), { minLength: count, maxLength: count }));
    });
    await fc.assert(
      fc.asyncProperty(points, async ([xs, values]) => {
        const given = xs.map((x, at) => Uint8Array.from([...values[at]!, x]));
        expect(interpolateAtZero(given)).toEqual(await combine(given));
      }),
      { numRuns: 60 },
    );
  });

  test("is the secret, from any t shares of it", async () => {
    await fc.assert(
      fc.asyncProperty(bytes(32), fc.integer({ min: 2, max: 40 }), fc.nat(20), async (secret, t, spare) => {
        const shares = await split(secret, t + spare, t);
        expect(interpolateAtZero(shares.slice(spare))).toEqual(secret);
      }),
      { numRuns: 40 },
    );
  });

  test("is none for an x that no split gives: 0, or the same twice", () => {
    expect(interpolateAtZero([Uint8Array.of(5, 0), Uint8Array.of(7, 1)])).toBeNull();
    expect(interpolateAtZero([Uint8Array.of(5, 9), Uint8Array.of(5, 9)])).toBeNull();
  });
});
