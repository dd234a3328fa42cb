import { createCipheriv } from "node:crypto";
import fc from "fast-check";
import { expect } from "vitest";
import { SLICE_WORDS } from "../src/chacha20.ts";
import { type Kernels, kernels } from "../src/kernels.ts";

/** The mask stream by OpenSSL, whose IV is the counter and then RFC 8439's nonce. */
export function opensslStream(key: Uint8Array, length: number): Uint32Array {
  const words = new Uint32Array(length);
  for (let slice = 0; slice * SLICE_WORDS < length; slice++) {
    const part = words.subarray(slice * SLICE_WORDS, (slice + 1) * SLICE_WORDS);
    const iv = Buffer.alloc(16);
    iv.writeUInt32LE(slice, 4);
    const stream = createCipheriv("chacha20", key, iv).update(Buffer.alloc(part.byteLength));
    new Uint8Array(part.buffer, part.byteOffset, part.byteLength).set(stream);
  }
  return words;
}

/** The compiled kernels, which every engine that runs these tests has. */
export function compiled(): Kernels {
  const wasm = kernels();
  if (!wasm)
    throw new Error("no WebAssembly with SIMD here: these tests would compare twins with themselves");
  return wasm;
}

compiled();

export const keys = fc.uint8Array({ minLength: 32, maxLength: 32 });

/** Short ones, and those around every border that the kernels have: four blocks, pieces of 2^11 and 2^12. */
export const lengths = fc.oneof(
  fc.integer({ min: 0, max: 200 }),
  fc
    .tuple(fc.constantFrom(256, 2048, 4096, 8192), fc.integer({ min: -18, max: 18 }))
    .map(([border, by]) => border + by),
);

/** The same bits, said by the first that differs; of long arrays much faster than toEqual. */
export function expectSame<T extends Uint32Array | Float32Array | Uint8Array>(actual: T, expected: T): void {
  const at = actual.findIndex((value, i) => !Object.is(value, expected[i]));
  const difference = at === -1 ? "none" : `${at}: ${actual[at]} for ${expected[at]}`;
  expect({ length: actual.length, difference }).toEqual({ length: expected.length, difference: "none" });
}

/** So many words, of a seed: cheaper than a word at a time from fast-check. */
export function someWords(length: number, seed: number): Uint32Array {
  let state = seed >>> 0;
  return Uint32Array.from({ length }, () => {
    state = (Math.imul(state, 1_664_525) + 1_013_904_223) >>> 0;
    return state ^ (state >>> 13);
  });
}
