import { createCipheriv } from "node:crypto";
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { addKeystream, SLICE_WORDS } from "../src/chacha20.ts";
import { addInto } from "../src/ring.ts";

/** RFC 8439 section 2.3 as it is written: one block of 16 words. */
function slowBlock(key: Uint8Array, counter: number, nonce: readonly [number, number, number]): Uint32Array {
  const keyWords = new Uint32Array(key.slice().buffer);
  const start = Uint32Array.of(
    0x61707865,
    0x3320646e,
    0x79622d32,
    0x6b206574,
    ...keyWords,
    counter,
    ...nonce,
  );
  const s = start.slice();
  const step = (a: number, b: number, c: number, n: number) => {
    s[a] = s[a]! + s[b]!;
    const x = s[c]! ^ s[a]!;
    s[c] = (x << n) | (x >>> (32 - n));
  };
  const quarter = (a: number, b: number, c: number, d: number) => {
    step(a, b, d, 16);
    step(c, d, b, 12);
    step(a, b, d, 8);
    step(c, d, b, 7);
  };
  for (let round = 0; round < 10; round++) {
    for (let i = 0; i < 4; i++) quarter(i, 4 + i, 8 + i, 12 + i);
    for (let i = 0; i < 4; i++) quarter(i, 4 + ((i + 1) % 4), 8 + ((i + 2) % 4), 12 + ((i + 3) % 4));
  }
  return s.map((word, i) => word + start[i]!);
}

function slowStream(key: Uint8Array, length: number): Uint32Array {
  const words = new Uint32Array(length);
  for (let i = 0; i < length; i++) {
    const slice = Math.floor(i / SLICE_WORDS);
    const block = Math.floor((i % SLICE_WORDS) / 16);
    words[i] = slowBlock(key, block, [slice, 0, 0])[i % 16]!;
  }
  return words;
}

const RFC_KEY = Uint8Array.from({ length: 32 }, (_, i) => i);
const key = fc.uint8Array({ minLength: 32, maxLength: 32 });

describe("the mask stream", () => {
  test("the twin gives RFC 8439 section 2.3.2's block", () => {
    const block = slowBlock(RFC_KEY, 1, [0x09000000, 0x4a000000, 0]);
    expect(Buffer.from(block.buffer).toString("hex")).toBe(
      "10f1e7e4d13b5915500fdd1fa32071c4c7d1f4c733c068030422aa9ac3d46c4e" +
        "d2826446079faa0914c2d705d98b02a2b5129cd1de164eb9cbd083e8a2503c4e",
    );
  });

  // Vectors 1 and 2 there.
  test("RFC 8439 appendix A.1: the zero key's first two blocks", () => {
    const target = new Uint32Array(32);
    addKeystream(target, new Uint8Array(32), 1);
    expect(Buffer.from(target.buffer).toString("hex")).toBe(
      "76b8e0ada0f13d90405d6ae55386bd28bdd219b8a08ded1aa836efcc8b770dc7" +
        "da41597c5157488d7724e03fb8d84a376a43b8f41518a11cc387b669b2ee6586" +
        "9f07e7be5551387a98ba977c732d080dcb0f29a048e3656912c6533e32ee7aed" +
        "29b721769ce64e43d57133b074d839d531ed1f28510afb45ace10a1f4b794d6f",
    );
  });

  test("equals the twin for any key and length", () => {
    fc.assert(
      fc.property(key, fc.integer({ min: 0, max: 200 }), (k, length) => {
        const target = new Uint32Array(length);
        addKeystream(target, k, 1);
        expect(target).toEqual(slowStream(k, length));
      }),
      { numRuns: 40 },
    );
  });

  test("a new slice starts at block 0 under a nonce of its own number: OpenSSL agrees over both", () => {
    const target = new Uint32Array(SLICE_WORDS + 20_000);
    addKeystream(target, RFC_KEY, 1);
    for (const slice of [0, 1]) {
      const words = target.subarray(slice * SLICE_WORDS, (slice + 1) * SLICE_WORDS);
      // OpenSSL's IV is the counter and then RFC 8439's nonce.
      const iv = Buffer.alloc(16);
      iv.writeUInt32LE(slice, 4);
      const stream = createCipheriv("chacha20", RFC_KEY, iv).update(Buffer.alloc(4 * words.length));
      expect(Buffer.from(words.buffer, words.byteOffset, words.byteLength).equals(stream)).toBe(true);
    }
  });

  test("adds onto what is there mod 2^32, and subtracting takes it away again", () => {
    fc.assert(
      fc.property(key, fc.uint32Array({ maxLength: 100 }), (k, words) => {
        const target = words.slice();
        addKeystream(target, k, 1);
        const expected = slowStream(k, words.length);
        addInto(expected, words);
        expect(target).toEqual(expected);
        addKeystream(target, k, -1);
        expect(target).toEqual(words);
      }),
      { numRuns: 40 },
    );
  });

  test("only 256-bit keys", () => {
    expect(() => addKeystream(new Uint32Array(1), new Uint8Array(16), 1)).toThrow(
      "expected 32 bytes, got 16",
    );
  });
});

test("addInto adds mod 2^32 and takes no other length", () => {
  const sum = Uint32Array.of(1, 0xffffffff);
  addInto(sum, Uint32Array.of(2, 3));
  expect([...sum]).toEqual([3, 2]);
  expect(() => addInto(sum, new Uint32Array(3))).toThrow("invariant");
});
