import { chacha20 } from "@noble/ciphers/chacha.js";
import { assert } from "@tutti/foundation/check";
import { Fault } from "@tutti/foundation/fault";

/**
 * Words under one nonce. Slices are independent: they can be made in parallel and in any order
 * (docs/protocol.md, Keys).
 */
export const SLICE_WORDS = 1 << 20;
/** RFC 8439 section 2.3: a block is 16 words of keystream. */
const BLOCK_WORDS = 16;
/** Keystream made at a time: two such buffers stay in the second-level cache. */
const PIECE_WORDS = 1 << 14;

assert(
  SLICE_WORDS % PIECE_WORDS === 0 && PIECE_WORDS % BLOCK_WORDS === 0,
  "pieces tile slices, blocks pieces",
);
assert(SLICE_WORDS / BLOCK_WORDS <= 2 ** 32, "a slice's blocks fit RFC 8439's 32-bit counter");
assert(new Uint8Array(Uint32Array.of(1).buffer)[0] === 1, "words in memory are little-endian");

/**
 * Adds (`sign` 1) or subtracts (-1) the mask stream of `key` to `target`, in place, mod 2^32. The stream is
 * ChaCha20's keystream (RFC 8439 section 2.4) as little-endian u32 words, from block 0 in every slice.
 */
export function addKeystream(target: Uint32Array, key: Uint8Array, sign: 1 | -1): void {
  if (key.length !== 32)
    throw new Fault("bad-input", "mask key", { expected: "32 bytes", got: `${key.length}` });
  assert(Math.ceil(target.length / SLICE_WORDS) <= 2 ** 32, "a slice number fits the nonce's u32");
  const zeros = new Uint8Array(4 * PIECE_WORDS);
  const stream = new Uint32Array(PIECE_WORDS);
  for (let at = 0; at < target.length; at += PIECE_WORDS) {
    const piece = target.subarray(at, at + PIECE_WORDS);
    const block = (at % SLICE_WORDS) / BLOCK_WORDS;
    const out = new Uint8Array(stream.buffer, 0, 4 * piece.length);
    chacha20(key, sliceNonce(Math.floor(at / SLICE_WORDS)), zeros.subarray(0, out.length), out, block);
    if (sign === 1) for (let i = 0; i < piece.length; i++) piece[i] = piece[i]! + stream[i]!;
    else for (let i = 0; i < piece.length; i++) piece[i] = piece[i]! - stream[i]!;
  }
  stream.fill(0);
}

/**
 * The nonce's first word is the slice number, little-endian; keys are never used twice, so the rest is zero.
 */
function sliceNonce(slice: number): Uint8Array {
  const nonce = new Uint8Array(12);
  new DataView(nonce.buffer).setUint32(0, slice, true);
  return nonce;
}
