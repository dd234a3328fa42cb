import { assert, checkInteger } from "@tutti/foundation/check";
import { Fault } from "@tutti/foundation/fault";
import { type Kernels, kernels } from "./kernels.ts";
import { addPackedTwin, packBitsTwin } from "./twins/pack.ts";

// Word i is bits [i·b, (i+1)·b) of the byte string, least significant first.

/** Packed at a time: words and bytes stay in the first-level cache. */
const PIECE_WORDS = 1 << 11;

assert(PIECE_WORDS % 8 === 0, "a piece ends with a whole byte, whatever the bits");

/** Bytes that `length` words of `bits` bits take on the wire. */
export function packedBytes(bits: number, length: number): number {
  return Math.ceil((bits * length) / 8);
}

/** The low `bits` (1..32) bits of each word, end to end; spare bits of the last byte are zero. */
export function packBits(words: Uint32Array, bits: number): Uint8Array {
  checkInteger("bits", bits, [1, 32]);
  const wasm = kernels();
  if (!wasm) return packBitsTwin(words, bits);
  const bytes = new Uint8Array(packedBytes(bits, words.length));
  for (let from = 0; from < words.length; from += PIECE_WORDS) {
    const piece = words.subarray(from, from + PIECE_WORDS);
    wasm.a.set(piece);
    wasm.code.pack(piece.length, bits);
    bytes.set(wasm.bytes.subarray(0, packedBytes(bits, piece.length)), packedBytes(bits, from));
  }
  wasm.wipe(Math.min(words.length, PIECE_WORDS));
  return bytes;
}

/**
 * `length` words of `bits` bits each from exactly the bytes that `packBits` makes.
 * @throws Fault("bad-message") for any other length, or for spare bits that are not zero.
 */
export function unpackBits(bytes: Uint8Array, bits: number, length: number): Uint32Array {
  checkPacked(bytes, bits, length);
  const words = new Uint32Array(length);
  addChecked(words, bytes, bits);
  return words;
}

/**
 * Adds the packed words into `sum`, mod 2^32, without a vector of them in between. Faults as of `unpackBits`,
 * for as many words as `sum` has; then `sum` is as it was.
 */
export function addPacked(sum: Uint32Array, bytes: Uint8Array, bits: number): void {
  checkPacked(bytes, bits, sum.length);
  addChecked(sum, bytes, bits);
}

function addChecked(sum: Uint32Array, bytes: Uint8Array, bits: number): void {
  const wasm = kernels();
  if (wasm) addByPieces(wasm, sum, { bytes, bits });
  else addPackedTwin(sum, bytes, bits);
}

type Packed = { readonly bytes: Uint8Array; readonly bits: number };

function addByPieces(wasm: Kernels, sum: Uint32Array, { bytes, bits }: Packed): void {
  for (let from = 0; from < sum.length; from += PIECE_WORDS) {
    const piece = sum.subarray(from, from + PIECE_WORDS);
    wasm.a.set(piece);
    wasm.bytes.set(bytes.subarray(packedBytes(bits, from), packedBytes(bits, from + piece.length)));
    wasm.code.addUnpacked(piece.length, bits);
    piece.set(wasm.a.subarray(0, piece.length));
  }
  wasm.wipe(Math.min(sum.length, PIECE_WORDS));
}

/** One vector has one encoding: the length is exact, and so are the bits beyond the last word. */
function checkPacked(bytes: Uint8Array, bits: number, length: number): void {
  checkInteger("bits", bits, [1, 32]);
  const expected = packedBytes(bits, length);
  if (bytes.length !== expected)
    throw new Fault("bad-message", "packed words", { expected: `${expected} bytes`, got: `${bytes.length}` });
  const spare = 8 * expected - bits * length;
  if (spare > 0 && bytes[expected - 1]! >>> (8 - spare) !== 0)
    throw new Fault("bad-message", "packed words", { expected: "spare bits of zero", got: "others" });
}
