import { addKeystreams, type Keystream } from "@tutti/kernels/chacha20";

/**
 * +1 where u comes after v, −1 before it, so that the two halves of a pair's mask cancel (Fig. 4, round 2).
 */
export function pairSign(u: string, v: string): 1 | -1 {
  return u > v ? 1 : -1;
}

/** What one mask stream adds to a vector: its key and its sign. */
export type Mask = Keystream;

/** y = x + Σ masks, in place, mod 2^32; of a ring of 2^b only the low b bits matter. */
export function addMasks(x: Uint32Array, masks: Iterable<Mask>): void {
  addKeystreams(x, [...masks]);
}

/** Takes off what `addMasks` put on. */
export function removeMasks(y: Uint32Array, masks: Iterable<Mask>): void {
  const opposite = (sign: Mask["sign"]) => (sign === 1 ? -1 : 1);
  addKeystreams(
    y,
    Array.from(masks, ({ key, sign }) => ({ key, sign: opposite(sign) })),
  );
}
