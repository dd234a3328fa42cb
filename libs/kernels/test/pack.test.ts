import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { addPacked, packBits, packedBytes, unpackBits } from "../src/pack.ts";
import { addPackedTwin, packBitsTwin } from "../src/twins/pack.ts";
import { expectSame, lengths, someWords } from "./oracle.ts";

/** The obvious twin: one big integer, word i at bit i·b. */
function slowPack(words: Uint32Array, bits: number): Uint8Array {
  let whole = 0n;
  for (const [i, word] of words.entries()) whole |= BigInt.asUintN(bits, BigInt(word)) << BigInt(i * bits);
  const bytes = new Uint8Array(Math.ceil((bits * words.length) / 8));
  for (let i = 0; i < bytes.length; i++) bytes[i] = Number((whole >> BigInt(8 * i)) & 255n);
  return bytes;
}

const words = fc.uint32Array({ maxLength: 70 });
const bits = fc.integer({ min: 1, max: 32 });

describe("bit packing", () => {
  test("packs as one big integer does, whatever the high bits", () => {
    fc.assert(
      fc.property(words, bits, (w, b) => {
        const expected = slowPack(w, b);
        expectSame(packBits(w, b), expected);
        expectSame(packBitsTwin(w, b), expected);
      }),
    );
  });

  test("unpack gives back the low bits of every word", () => {
    const low = (w: Uint32Array, b: number) => w.map((word) => Number(BigInt.asUintN(b, BigInt(word))));
    fc.assert(
      fc.property(
        words,
        bits,
        (w, b) => void expect(unpackBits(packBits(w, b), b, w.length)).toEqual(low(w, b)),
      ),
    );
  });

  test.each(Array.from({ length: 32 }, (_, i) => i + 1))("compiled code is its twin for %d bits", (b) => {
    fc.assert(
      fc.property(lengths, fc.nat(), (length, seed) => {
        const w = someWords(length, seed);
        const packed = packBits(w, b);
        expectSame(packed, packBitsTwin(w, b));
        const low = w.map((word) => (word << (32 - b)) >>> (32 - b));
        expectSame(unpackBits(packed, b, length), low);
        const base = someWords(length, seed + 1);
        const expected = base.map((word, i) => word + low[i]!);
        for (const add of [addPacked, addPackedTwin]) {
          const sum = base.slice();
          add(sum, packed, b);
          expectSame(sum, expected);
        }
      }),
      { numRuns: 12 },
    );
  });

  test("one byte more or less is refused", () => {
    const packed = packBits(Uint32Array.of(1, 2, 3), 11);
    expect(packed.length).toBe(packedBytes(11, 3));
    expect(() => unpackBits(packed.subarray(1), 11, 3)).toThrow("expected 5 bytes, got 4");
    expect(() => unpackBits(Uint8Array.of(...packed, 0), 11, 3)).toThrow("expected 5 bytes, got 6");
    expect(() => addPacked(new Uint32Array(3), packed.subarray(1), 11)).toThrow("expected 5 bytes, got 4");
  });

  test("every stray bit beyond the last word is refused, so that a vector has one encoding", () => {
    const packed = packBits(Uint32Array.of(0x7ff, 0x7ff, 0x7ff), 11);
    for (let bit = 1; bit < 8; bit++) {
      const stray = packed.slice();
      stray[4]! |= 1 << bit;
      expect(() => unpackBits(stray, 11, 3)).toThrow("spare bits");
      const sum = Uint32Array.of(1, 2, 3);
      expect(() => addPacked(sum, stray, 11)).toThrow("spare bits");
      expect([...sum]).toEqual([1, 2, 3]);
    }
  });

  test("bits outside 1..32 are refused", () => {
    for (const b of [0, 33, 1.5]) expect(() => packBits(new Uint32Array(1), b)).toThrow("1..32");
    expect(() => unpackBits(new Uint8Array(0), 0, 0)).toThrow("1..32");
    expect(() => addPacked(new Uint32Array(0), new Uint8Array(0), 33)).toThrow("1..32");
  });
});
