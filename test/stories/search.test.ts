import fc from "fast-check";
import { expect, test } from "vitest";
import { expectedByChance, type Needle, search } from "../../claims/support/round/search.ts";

/** What round/blind rests on: a search that misses nothing and finds nothing that is not there. */
const needle = (bytes: Uint8Array, alone = false): Needle => ({ site: "s", what: "w", bytes, alone });

test("finds exactly what Buffer.includes finds, at every offset, in any of several haystacks", () => {
  const few = fc.uint8Array({ minLength: 2, maxLength: 4, max: 3 });
  const hay = fc.array(fc.uint8Array({ maxLength: 60, max: 3 }), { maxLength: 3 });
  fc.assert(
    fc.property(fc.array(few, { maxLength: 8 }), hay, (needles, haystacks) => {
      const wanted = needles.map((bytes) => needle(bytes));
      const slow = wanted.filter(({ bytes }) =>
        haystacks.some((one) => Buffer.from(one).includes(Buffer.from(bytes))),
      );
      expect(search(wanted, haystacks)).toEqual(slow);
    }),
  );
});

test("digits stand alone, or they are part of another number or of a hash", () => {
  const text = (said: string) => new TextEncoder().encode(said);
  const met = (said: string) => search([needle(text("17393"), true)], [text(said)]).length;
  expect(['{"rows":17393}', "17393", "on 17393, then", "117393 17393", "17393."].map(met)).toEqual([
    1, 1, 1, 1, 1,
  ]);
  expect(["117393", "173930", "0.17393", "a17393f", "17392"].map(met)).toEqual([0, 0, 0, 0, 0]);
});

test("chance: four bytes in a million offsets are met once in some four thousand", () => {
  const chance = expectedByChance([needle(new Uint8Array(4))], [new Uint8Array(2 ** 20)]);
  expect(1 / chance).toBe(4096);
});
