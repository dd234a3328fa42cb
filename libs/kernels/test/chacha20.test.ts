import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { addKeystream, addKeystreams, SLICE_WORDS } from "../src/chacha20.ts";
import { addKeystreamsTwin, addKeystreamTwin } from "../src/twins/chacha20.ts";
import { compiled, expectSame, keys, lengths, opensslStream, someWords } from "./oracle.ts";
import { VECTORS, type Vector } from "./rfc8439.ts";

/** RFC 8439 section 2.3 as it is written: one block of 16 words. */
function slowBlock(key: Uint8Array, counter: number, nonce: readonly number[]): Uint32Array {
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
  for (let at = 0; at < length; at += 16) {
    const slice = Math.floor(at / SLICE_WORDS);
    const block = slowBlock(key, (at % SLICE_WORDS) / 16, [slice, 0, 0]);
    words.set(block.subarray(0, length - at), at);
  }
  return words;
}

const RFC_KEY = Uint8Array.from({ length: 32 }, (_, i) => i);
const bytesOf = (hex: string) => Uint8Array.from(Buffer.from(hex, "hex"));

describe("RFC 8439's vectors", () => {
  const encrypt = ({ text }: Vector, stream: Uint32Array) => {
    const bytes = new Uint8Array(stream.buffer);
    return Buffer.from(text.map((byte, i) => byte ^ bytes[i]!)).toString("hex");
  };

  test.each(VECTORS)("section $section: the compiled kernel", (vector) => {
    const { key, nonce, a, code, wipe } = compiled();
    key.set(bytesOf(vector.key));
    nonce.set(new Uint32Array(bytesOf(vector.nonce).buffer));
    const words = Math.ceil(vector.text.length / 4);
    const at = code.A.value;
    code.mask(at, at + 4 * words, vector.block, 0);
    expect(encrypt(vector, a.slice(0, words))).toBe(vector.out);
    wipe(words);
  });

  test.each(VECTORS)("section $section: the slow block", (vector) => {
    const nonce = new Uint32Array(bytesOf(vector.nonce).buffer);
    const blocks = Array.from({ length: Math.ceil(vector.text.length / 64) }, (_, i) => [
      ...slowBlock(bytesOf(vector.key), vector.block + i, [...nonce]),
    ]);
    expect(encrypt(vector, Uint32Array.from(blocks.flat()))).toBe(vector.out);
  });
});

describe("the mask stream", () => {
  test("the counter goes on from the last 32-bit number to 0, as the words of one vector do", () => {
    const { key, a, code, wipe } = compiled();
    key.set(RFC_KEY);
    const at = code.A.value;
    code.mask(at, at + 256, 0xfffffffe, 0);
    const blocks = [0xfffffffe, 0xffffffff, 0, 1].map((block) => [...slowBlock(RFC_KEY, block, [0, 0, 0])]);
    expect([...a.subarray(0, 64)]).toEqual(blocks.flat());
    wipe(64);
  });

  test("compiled code, twin and the slow block agree for any key and short lengths", () => {
    fc.assert(
      fc.property(keys, fc.integer({ min: 0, max: 200 }), (key, length) => {
        const expected = slowStream(key, length);
        for (const add of [addKeystream, addKeystreamTwin]) {
          const target = new Uint32Array(length);
          add(target, key, 1);
          expectSame(target, expected);
        }
      }),
      { numRuns: 60 },
    );
  });

  test("OpenSSL agrees over two slices: the second starts at block 0 under its own nonce", () => {
    const expected = opensslStream(RFC_KEY, SLICE_WORDS + 20_007);
    for (const add of [addKeystream, addKeystreamTwin]) {
      const target = new Uint32Array(expected.length);
      add(target, RFC_KEY, 1);
      expectSame(target, expected);
    }
  });

  test("adds onto what is there mod 2^32, and subtracting takes it away again", () => {
    fc.assert(
      fc.property(keys, lengths, fc.nat(), (key, length, seed) => {
        const words = someWords(length, seed);
        const stream = opensslStream(key, length);
        for (const add of [addKeystream, addKeystreamTwin]) {
          const target = words.slice();
          add(target, key, 1);
          expectSame(
            target,
            words.map((word, i) => word + stream[i]!),
          );
          add(target, key, -1);
          expectSame(target, words);
        }
      }),
      { numRuns: 40 },
    );
  });

  test("many masks in one pass are one after the other, also on a part of a vector", () => {
    const masks = fc.array(fc.record({ key: keys, sign: fc.constantFrom(1 as const, -1 as const) }), {
      maxLength: 4,
    });
    fc.assert(
      fc.property(masks, lengths, fc.nat(3), (all, length, offset) => {
        const whole = someWords(length + 5, length);
        const expected = whole.slice();
        for (const { key, sign } of all) {
          opensslStream(key, length).forEach((word, i) => {
            expected[offset + i]! += sign * word;
          });
        }
        for (const add of [addKeystreams, addKeystreamsTwin]) {
          const target = whole.slice();
          add(target.subarray(offset, offset + length), all);
          expectSame(target, expected);
        }
      }),
      { numRuns: 40 },
    );
  });

  test("only 256-bit keys, and a bad one among others changes nothing", () => {
    const short = new Uint8Array(16);
    expect(() => addKeystream(new Uint32Array(1), short, 1)).toThrow("mask key: expected 32 bytes, got 16");
    const target = new Uint32Array(1);
    const masks = [RFC_KEY, short].map((key) => ({ key, sign: 1 as const }));
    expect(() => addKeystreams(target, masks)).toThrow("mask key");
    expect([...target]).toEqual([0]);
  });
});
