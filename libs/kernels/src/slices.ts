import { assert } from "@tutti/foundation/check";

/**
 * Words under one nonce. Slices are independent: they can be made in parallel and in any order
 * (docs/protocol.md, Keys).
 */
export const SLICE_WORDS = 1 << 20;
/** RFC 8439 section 2.3: a block is 16 words of keystream. */
const BLOCK_WORDS = 16;

assert(SLICE_WORDS % BLOCK_WORDS === 0, "a slice ends with a block");
assert(SLICE_WORDS / BLOCK_WORDS <= 2 ** 32, "a slice's blocks fit RFC 8439's 32-bit counter");
assert(new Uint8Array(Uint32Array.of(1).buffer)[0] === 1, "words in memory are little-endian");

/** Where in the stream a word lies that begins a block: its slice, and the block in it. */
export function placeOf(word: number): [slice: number, block: number] {
  assert(word % BLOCK_WORDS === 0, "pieces begin with a block");
  return [Math.floor(word / SLICE_WORDS), (word % SLICE_WORDS) / BLOCK_WORDS];
}
