import { canonical } from "@tutti/foundation/bytes";
import { assert } from "@tutti/foundation/check";
import { sha256 } from "@tutti/foundation/hash";
import { addKeystream } from "@tutti/kernels/chacha20";
import { walshHadamard } from "./hadamard.ts";

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
  flip(out, seed);
  return transformed(out);
}

/** The vector that `rotate` made this of, up to float32 rounding; still padded. Writes to its argument. */
export function rotateBack(rotated: Float32Array, seed: Uint8Array | string): Float32Array {
  return flip(transformed(rotated), seed);
}

function transformed(x: Float32Array): Float32Array {
  assert(Number.isInteger(Math.log2(x.length)), "the transform takes a power of two");
  walshHadamard(x);
  const unit = 1 / Math.sqrt(x.length);
  for (let i = 0; i < x.length; i++) x[i] = x[i]! * unit;
  return x;
}

/** Coordinate i changes its sign where bit i of a ChaCha20 keystream is 1, lowest bit of a word first. */
function flip(x: Float32Array, seed: Uint8Array | string): Float32Array {
  const bits = new Uint32Array(Math.ceil(x.length / 32));
  addKeystream(bits, sha256(canonical("tutti/rotation/v1", seed)), 1);
  for (let i = 0; i < x.length; i++) if ((bits[i >>> 5]! >>> (i & 31)) & 1) x[i] = -x[i]!;
  return x;
}
