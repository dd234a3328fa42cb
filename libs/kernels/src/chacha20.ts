import { assert, checkBytes } from "@tutti/foundation/check";
import { type Kernels, kernels } from "./kernels.ts";
import { placeOf, SLICE_WORDS } from "./slices.ts";
import { addKeystreamsTwin } from "./twins/chacha20.ts";

export { SLICE_WORDS };

/** Masked at a time: 16 KiB stay in the first-level cache while every mask is added to them. */
const PIECE_WORDS = 1 << 12;

assert(SLICE_WORDS % PIECE_WORDS === 0, "pieces tile slices");

/** A key of 32 bytes, and whether its stream is added or taken away. */
export type Keystream = { readonly key: Uint8Array; readonly sign: 1 | -1 };

/**
 * Adds (`sign` 1) or subtracts (-1) the mask stream of `key` to `target`, in place, mod 2^32. The stream is
 * ChaCha20's keystream (RFC 8439 section 2.4) as little-endian u32 words, from block 0 in every slice; the
 * nonce's first word is the slice number, the others are zero, since no key is used twice.
 */
export function addKeystream(target: Uint32Array, key: Uint8Array, sign: 1 | -1): void {
  addKeystreams(target, [{ key, sign }]);
}

/** As `addKeystream` of each mask, in one pass over the memory: a piece takes all of them before the next. */
export function addKeystreams(target: Uint32Array, masks: readonly Keystream[]): void {
  for (const { key } of masks) checkBytes("mask key", key, 32, "bad-input");
  assert(target.length <= 2 ** 32 * SLICE_WORDS, "a slice number fits the nonce's u32");
  const wasm = kernels();
  if (wasm) addByPieces(wasm, target, masks);
  else addKeystreamsTwin(target, masks);
}

function addByPieces(wasm: Kernels, target: Uint32Array, masks: readonly Keystream[]): void {
  const at = wasm.code.A.value;
  for (let from = 0; from < target.length; from += PIECE_WORDS) {
    const piece = target.subarray(from, from + PIECE_WORDS);
    const [slice, block] = placeOf(from);
    wasm.nonce[0] = slice;
    wasm.a.set(piece);
    for (const { key, sign } of masks) {
      wasm.key.set(key);
      wasm.code.mask(at, at + 4 * piece.length, block, sign === 1 ? 0 : -1);
    }
    piece.set(wasm.a.subarray(0, piece.length));
  }
  wasm.wipe(Math.min(target.length, PIECE_WORDS));
}
