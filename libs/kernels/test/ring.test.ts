import fc from "fast-check";
import { expect, test } from "vitest";
import { addInto } from "../src/ring.ts";
import { addIntoTwin } from "../src/twins/ring.ts";
import { expectSame, lengths, someWords } from "./oracle.ts";

test("addInto and its twin add mod 2^32, as BigInt does, and leave what is added as it was", () => {
  fc.assert(
    fc.property(lengths, fc.nat(), (length, seed) => {
      const [x, y] = [someWords(length, seed), someWords(length, ~seed)];
      const expected = x.map((word, i) => Number(BigInt.asUintN(32, BigInt(word) + BigInt(y[i]!))));
      for (const add of [addInto, addIntoTwin]) {
        const [sum, added] = [x.slice(), y.slice()];
        add(sum, added);
        expectSame(sum, expected);
        expectSame(added, y);
      }
    }),
    { numRuns: 60 },
  );
});

test("wraps around, and takes no other length", () => {
  const sum = Uint32Array.of(1, 0xffffffff);
  addInto(sum, Uint32Array.of(2, 3));
  expect([...sum]).toEqual([3, 2]);
  expect(() => addInto(sum, new Uint32Array(3))).toThrow("invariant");
});
