import { Buffer } from "node:buffer";
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import {
  base64,
  canonical,
  compareBytes,
  concat,
  equalBytes,
  fromBase64,
  fromHex,
  fromUtf8,
  hex,
  u32,
  utf8,
} from "../src/bytes.ts";

const bytes = fc.uint8Array({ maxLength: 200 });
const plain = (data: Uint8Array) => [...data];

describe("texts and bytes, against node's Buffer as the slow twin", () => {
  test("hex, base64, UTF-8 and back", () => {
    fc.assert(
      fc.property(bytes, fc.string({ unit: "grapheme" }), (data, text) => {
        expect(hex(data)).toBe(Buffer.from(data).toString("hex"));
        expect(base64(data)).toBe(Buffer.from(data).toString("base64"));
        expect(plain(fromHex(hex(data)))).toEqual(plain(data));
        expect(plain(fromBase64(base64(data)))).toEqual(plain(data));
        expect(plain(utf8(text))).toEqual(plain(Buffer.from(text)));
        expect(fromUtf8(utf8(text))).toBe(text);
      }),
    );
  });

  test("base64 across its piece of 32,768 bytes", () => {
    for (const length of [32_767, 32_768, 32_769, 98_305]) {
      const data = Uint8Array.from({ length }, (_, i) => (i * 31) % 256);
      expect(base64(data)).toBe(Buffer.from(data).toString("base64"));
    }
  });

  test("what is not hex, base64 or UTF-8 is a Fault with the caller's name for it", () => {
    for (const bad of ["a", "AB", "zz", "0x12", "ab cd", "ab\n"])
      expect(() => fromHex(bad, "serial")).toThrow("serial");
    expect(() => fromBase64("@@", "payload")).toThrow("payload: expected base64");
    expect(() => fromUtf8(Uint8Array.of(0xc3, 0x28), "plan")).toThrow("plan: expected UTF-8");
  });
});

describe("concat, equalBytes, compareBytes", () => {
  test("against plain arrays", () => {
    fc.assert(
      fc.property(bytes, bytes, (a, b) => {
        expect(plain(concat(a, b))).toEqual([...a, ...b]);
        expect(equalBytes(a, b)).toBe(plain(a).join() === plain(b).join());
        expect(equalBytes(a, a.slice())).toBe(true);
        expect(Math.sign(compareBytes(a, b))).toBe(Buffer.compare(a, b));
      }),
    );
    expect(plain(concat())).toEqual([]);
  });

  test("one bit of difference is seen wherever it is", () => {
    const a = new Uint8Array(32);
    for (let i = 0; i < 256; i++) {
      const b = a.slice();
      b[i >> 3]! ^= 1 << (i & 7);
      expect(equalBytes(a, b)).toBe(false);
    }
  });
});

describe("canonical", () => {
  test("by hand: each field behind its length, little-endian; numbers as u64", () => {
    expect(hex(canonical("d", "ab", Uint8Array.of(7), 258))).toBe(
      "0100000064" + "020000006162" + "0100000007" + "080000000201000000000000",
    );
    expect(hex(u32(0xdeadbeef))).toBe("efbeadde");
  });

  test("two different tuples never share an encoding", () => {
    const tuple = fc.array(fc.uint8Array({ maxLength: 5 }), { maxLength: 4 });
    fc.assert(
      fc.property(tuple, tuple, (a, b) => {
        const same = JSON.stringify(a.map(plain)) === JSON.stringify(b.map(plain));
        expect(equalBytes(canonical("d", ...a), canonical("d", ...b))).toBe(same);
      }),
    );
    expect(equalBytes(canonical("d", "a", "bc"), canonical("d", "ab", "c"))).toBe(false);
    expect(equalBytes(canonical("d", "a"), canonical("da"))).toBe(false);
  });

  test("numbers that are not natural are our own bug", () => {
    for (const bad of [-1, 0.5, Number.NaN, 2 ** 53]) expect(() => canonical("d", bad)).toThrow(RangeError);
    expect(hex(canonical("", 2 ** 53 - 1)).slice(-16)).toBe("ffffffffffff1f00");
  });
});
