import { fromHalf } from "../half.ts";
import { type Static, sizeOf, type Tensor } from "../ir.ts";
import type { Site } from "../site.ts";
import { allocate, numeric, storing, stridesOf } from "../tensor.ts";

/**
 * From constant inputs to the outputs whose statics `infer` has already worked out. A rule may thus trust
 * shapes, axes and dtypes, and share what infer resolved (windows, spans, permutations) rather than resolve
 * it again.
 */
export type EvaluateRule = (at: Site, out: readonly Static[]) => readonly Tensor[];

/** The only output's static. */
export function only(out: readonly Static[]): Static {
  return out[0]!;
}

/** How a view walks over a tensor: elements from one index to the next on each axis, and where it begins. */
export type Walk = { readonly strides: readonly number[]; readonly start?: number };

/** Row-major position in a tensor for each element of a strided view of it. */
export function positions(shape: readonly number[], strides: readonly number[], start = 0): Float64Array {
  const out = new Float64Array(sizeOf(shape));
  walk(shape, { strides, start }, (position, i) => {
    out[i] = position;
  });
  return out;
}

/** A new tensor of the elements of a strided view; any dtype, and no memory but the tensor's own. */
export function strided(tensor: Tensor, shape: readonly number[], view: Walk): Tensor {
  if (tensor.dtype === "string") return pick(tensor, shape, positions(shape, view.strides, view.start));
  const source = numeric(tensor);
  const data = allocate(tensor.dtype, sizeOf(shape));
  walk(shape, view, (position, i) => {
    data[i] = source[position]!;
  });
  return { dtype: tensor.dtype, shape, data };
}

/** An odometer: the last axis turns fastest, and each that is full goes back to its start and carries. */
function walk(
  shape: readonly number[],
  { strides, start = 0 }: Walk,
  visit: (position: number, i: number) => void,
): void {
  const size = sizeOf(shape);
  const index = new Array<number>(shape.length).fill(0);
  let position = start;
  for (let i = 0; i < size; i++) {
    visit(position, i);
    for (let axis = shape.length - 1; axis >= 0; axis--) {
      index[axis]!++;
      position += strides[axis]!;
      if (index[axis]! < shape[axis]!) break;
      position -= strides[axis]! * shape[axis]!;
      index[axis] = 0;
    }
  }
}

/** For each element of the broadcast shape `to`, where its value lies in a tensor of shape `from`. */
export function stretched(from: readonly number[], to: readonly number[]): Float64Array {
  return positions(to, stretch(from, to));
}

/** Strides that read a tensor of shape `from` as if it had the broadcast shape `to`: 0 where an axis is 1. */
export function stretch(from: readonly number[], to: readonly number[]): readonly number[] {
  const own = stridesOf(from);
  return to.map((_, axis) => {
    const at = axis - to.length + from.length;
    return at < 0 || from[at] === 1 ? 0 : own[at]!;
  });
}

/** A new tensor of the elements at the given positions; any dtype, and no element passes through a number. */
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

/**
 * Elements to compute with: bigints of an int64 tensor, else numbers, halves decoded to what they stand for.
 */
export function elements(tensor: Tensor): ArrayLike<number | bigint> {
  if (tensor.dtype === "float16") return Float32Array.from(numeric(tensor) as Uint16Array, fromHalf);
  return numeric(tensor);
}

/** A tensor like `like` from computed elements; a bigint wraps to 64 bits as int64 does. */
export function filled({ dtype, shape }: Static, value: (i: number) => number | bigint): Tensor {
  const size = sizeOf(shape);
  const data = allocate(dtype, size);
  const stored = storing(dtype);
  for (let i = 0; i < size; i++) data[i] = stored(value(i));
  return { dtype, shape, data };
}

/** The smaller of two numbers or bigints; Math.min knows numbers alone. */
export function lesser<T extends number | bigint>(a: T, b: T): T {
  if (a < b) return a;
  return b;
}

/** The larger of two numbers or bigints. */
export function greater<T extends number | bigint>(a: T, b: T): T {
  if (a > b) return a;
  return b;
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
