import { type Static, sizeOf, type Tensor } from "../ir.ts";
import type { Site } from "../site.ts";
import { allocate, numbers, numeric, stridesOf, tensorOf } from "../tensor.ts";

/** From constant inputs to the outputs whose statics `infer` has already worked out. */
export type Rule = (at: Site, out: readonly Static[]) => readonly Tensor[];

/** The only output's static. */
export function only(out: readonly Static[]): Static {
  return out[0]!;
}

/** Row-major position in a tensor for each element of a strided view of it. */
export function positions(shape: readonly number[], strides: readonly number[], start = 0): Float64Array {
  const out = new Float64Array(sizeOf(shape));
  const index = new Array<number>(shape.length).fill(0);
  let position = start;
  for (let i = 0; i < out.length; i++) {
    out[i] = position;
    for (let axis = shape.length - 1; axis >= 0; axis--) {
      index[axis]!++;
      position += strides[axis]!;
      if (index[axis]! < shape[axis]!) break;
      position -= strides[axis]! * shape[axis]!;
      index[axis] = 0;
    }
  }
  return out;
}

/** For each element of the broadcast shape `to`, where its value lies in a tensor of shape `from`. */
export function stretched(from: readonly number[], to: readonly number[]): Float64Array {
  const own = stridesOf(from);
  const strides = to.map((_, axis) => {
    const at = axis - to.length + from.length;
    return at < 0 || from[at] === 1 ? 0 : own[at]!;
  });
  return positions(to, strides);
}

/** A new tensor of the elements at the given positions; any dtype. */
export function pick(tensor: Tensor, shape: readonly number[], from: ArrayLike<number>): Tensor {
  if (tensor.dtype === "string") {
    const data = tensor.data as readonly string[];
    return { ...tensor, shape, data: Array.from(from, (position) => data[position]!) };
  }
  const source = numeric(tensor);
  const data = allocate(tensor.dtype, from.length);
  for (let i = 0; i < from.length; i++) data[i] = source[from[i]!]!;
  return { dtype: tensor.dtype, shape, data };
}

/** Elements to compute with: bigints of an int64 tensor, else numbers with halves decoded. */
export function elements(tensor: Tensor): ArrayLike<number | bigint> {
  if (tensor.dtype === "float16") return numbers(tensor);
  return numeric(tensor);
}

/** A tensor like `like` from computed elements; a bigint wraps to 64 bits as int64 does. */
export function filled(like: Static, value: (i: number) => number | bigint): Tensor {
  const size = sizeOf(like.shape);
  if (like.dtype === "int64") {
    const data = new BigInt64Array(size);
    for (let i = 0; i < size; i++) data[i] = integer(value(i));
    return { ...like, data };
  }
  return tensorOf(
    like.dtype,
    like.shape,
    Float64Array.from({ length: size }, (_, i) => Number(value(i))),
  );
}

/** A double cast to int64 saturates in JavaScript's BigInt only if we say so; NaN becomes zero. */
function integer(value: number | bigint): bigint {
  if (typeof value === "bigint") return value;
  if (Number.isNaN(value)) return 0n;
  return BigInt(Math.trunc(Math.max(-(2 ** 63), Math.min(2 ** 63 - 1024, value))));
}

/** A tensor as one slab per leading index: `[outer, axis, inner]` sizes around an axis. */
export function around(
  shape: readonly number[],
  axis: number,
): { outer: number; size: number; inner: number } {
  return {
    outer: sizeOf(shape.slice(0, axis)),
    size: shape[axis] ?? 1,
    inner: sizeOf(shape.slice(axis + 1)),
  };
}
