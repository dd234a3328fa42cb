import { canonical } from "@tutti/foundation/bytes";
import { sha256 } from "@tutti/foundation/hash";
import { addKeystream } from "@tutti/kernels/chacha20";
import { walshHadamard } from "@tutti/kernels/hadamard";

/*
 * A random rotation: signs, then the Walsh–Hadamard transform over √d (Kairouz et al. 2021, Algorithm 1). It
 * makes every coordinate of any vector about as large as the others, so that few bits hold them all. It keeps
 * lengths, and hides nothing: its seed is public, and all devices of a sum use one.
 */

/**
 * The rotation of `vector`, padded with zeros to `dimension`, a power of two. The argument is not written to.
 */
export function rotate(vector: Float32Array, dimension: number, seed: Uint8Array | string): Float32Array {
  const out = new Float32Array(dimension);
  out.set(vector);
  walshHadamard(flip(out, seed));
  return out;
}

/** The vector that `rotate` made this of, up to float32 rounding; still padded. Writes to its argument. */
export function rotateBack(rotated: Float32Array, seed: Uint8Array | string): Float32Array {
  walshHadamard(rotated);
  return flip(rotated, seed);
}

/** Coordinate i changes its sign where bit i of a ChaCha20 keystream is 1, lowest bit of a word first. */
function flip(x: Float32Array, seed: Uint8Array | string): Float32Array {
  const bits = new Uint32Array(Math.ceil(x.length / 32));
  addKeystream(bits, sha256(canonical("tutti/rotation/v1", seed)), 1);
  for (let i = 0; i < x.length; i++) if ((bits[i >>> 5]! >>> (i & 31)) & 1) x[i] = -x[i]!;
  return x;
}
