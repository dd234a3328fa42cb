import { addKeystream } from "@tutti/kernels/chacha20";

/**
 * +1 where u comes after v, −1 before it, so that the two halves of a pair's mask cancel (Fig. 4, round 2).
 */
export function pairSign(u: string, v: string): 1 | -1 {
  return u > v ? 1 : -1;
}

/** What one mask stream adds to a vector: its key and its sign. */
export type Mask = { readonly key: Uint8Array; readonly sign: 1 | -1 };

/** y = x + Σ masks, in place, mod 2^32; of a ring of 2^b only the low b bits matter. */
export function addMasks(x: Uint32Array, masks: Iterable<Mask>): void {
  for (const { key, sign } of masks) addKeystream(x, key, sign);
}

/** Takes off what `addMasks` put on. */
export function removeMasks(y: Uint32Array, masks: Iterable<Mask>): void {
  for (const { key, sign } of masks) addKeystream(y, key, sign === 1 ? -1 : 1);
}
