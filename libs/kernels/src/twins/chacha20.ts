import { chacha20 } from "@noble/ciphers/chacha.js";
import { placeOf } from "../slices.ts";

/** Keystream made at a time: two such buffers stay in the second-level cache. */
const PIECE_WORDS = 1 << 14;

/** `addKeystreams` in TypeScript; keys are checked already. */
export function addKeystreamsTwin(
  target: Uint32Array,
  masks: readonly { readonly key: Uint8Array; readonly sign: 1 | -1 }[],
): void {
  for (const { key, sign } of masks) addKeystreamTwin(target, key, sign);
}

/** `addKeystream` in TypeScript, on the keystream of @noble/ciphers. */
export function addKeystreamTwin(target: Uint32Array, key: Uint8Array, sign: 1 | -1): void {
  const zeros = new Uint8Array(4 * PIECE_WORDS);
  const stream = new Uint32Array(PIECE_WORDS);
  for (let at = 0; at < target.length; at += PIECE_WORDS) {
    const piece = target.subarray(at, at + PIECE_WORDS);
    const [slice, block] = placeOf(at);
    const out = new Uint8Array(stream.buffer, 0, 4 * piece.length);
    chacha20(key, sliceNonce(slice), zeros.subarray(0, out.length), out, block);
    if (sign === 1) for (let i = 0; i < piece.length; i++) piece[i] = piece[i]! + stream[i]!;
    else for (let i = 0; i < piece.length; i++) piece[i] = piece[i]! - stream[i]!;
  }
  stream.fill(0);
}

function sliceNonce(slice: number): Uint8Array {
  const nonce = new Uint8Array(12);
  new DataView(nonce.buffer).setUint32(0, slice, true);
  return nonce;
}
