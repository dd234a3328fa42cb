import { assert } from "@tutti/foundation/check";
import { Fault } from "@tutti/foundation/fault";
import { fromHalf, toHalf } from "./half.ts";
import { type DType, sizeOf, type Tensor, type TensorData } from "./ir.ts";

/** A typed array one may write into; strings have none. */
export type Numeric = Exclude<TensorData, readonly string[]>;

/** Zeros: the storage of `length` elements of `dtype`. */
export function allocate(dtype: DType, length: number): Numeric {
  switch (dtype) {
    case "float32":
      return new Float32Array(length);
    case "float64":
      return new Float64Array(length);
    case "float16":
      return new Uint16Array(length);
    case "int64":
      return new BigInt64Array(length);
    case "int32":
      return new Int32Array(length);
    case "int8":
      return new Int8Array(length);
    case "uint8":
    case "bool":
      return new Uint8Array(length);
    case "string":
      throw new Fault("unsupported", "tensor arithmetic", { expected: "numbers", got: "strings" });
  }
}

/** Bytes of one element; strings count as a pointer. */
export function bytesPer(dtype: DType): number {
  if (dtype === "float64" || dtype === "int64" || dtype === "string") return 8;
  if (dtype === "float32" || dtype === "int32") return 4;
  return dtype === "float16" ? 2 : 1;
}

/** Typed storage of a tensor that is not of strings. */
export function numeric(tensor: Tensor): Numeric {
  assert(tensor.dtype !== "string", "numeric data is asked of numeric tensors only");
  return tensor.data as Numeric;
}

const SAFE = BigInt(Number.MAX_SAFE_INTEGER);

/** An int64 as a number; what a number cannot hold exactly is clamped, as INT64_MAX slice ends are. */
export function safeNumber(value: bigint): number {
  return Number(value > SAFE ? SAFE : value < -SAFE ? -SAFE : value);
}

/** Elements as JavaScript numbers in row-major order; int64 clamped to safe integers, float16 decoded. */
export function numbers(tensor: Tensor): number[] {
  const data = numeric(tensor);
  if (data instanceof BigInt64Array) return Array.from(data, safeNumber);
  if (tensor.dtype === "float16") return Array.from(data as Uint16Array, fromHalf);
  return Array.from(data);
}

/**
 * How a computed number is stored: floats as they are, integers truncated, halves as bits, bool as 0
 * or 1.
 */
export function storing(dtype: DType): (value: number | bigint) => number | bigint {
  switch (dtype) {
    case "int64":
      return (value) => (typeof value === "bigint" ? value : integer(value));
    case "float16":
      return (value) => toHalf(Number(value));
    case "bool":
      return (value) => (Number(value) === 0 ? 0 : 1);
    case "float32":
    case "float64":
      return Number;
    default:
      return (value) => Math.trunc(Number(value));
  }
}

/** Saturates where a double leaves int64; NaN becomes zero. */
function integer(value: number): bigint {
  if (Number.isNaN(value)) return 0n;
  return BigInt(Math.trunc(Math.max(-(2 ** 63), Math.min(2 ** 63 - 1024, value))));
}

/** A tensor of any numeric dtype from plain numbers, rounded as the dtype's storage rounds. */
export function tensorOf(dtype: DType, shape: readonly number[], values: ArrayLike<number>): Tensor {
  assert(values.length === sizeOf(shape), `as many values as the shape says: ${shape} of ${values.length}`);
  const data = allocate(dtype, values.length);
  const stored = storing(dtype);
  for (let i = 0; i < values.length; i++) data[i] = stored(values[i]!);
  return { dtype, shape, data };
}

/** An int64 tensor; a vector unless a shape is given. */
export function int64(
  values: readonly (number | bigint)[],
  shape: readonly number[] = [values.length],
): Tensor {
  assert(values.length === sizeOf(shape), `int64: [${shape}] of ${values.length} values`);
  return { dtype: "int64", shape, data: BigInt64Array.from(values, BigInt) };
}

/** The same elements under another shape; shares storage. */
export function reshaped(tensor: Tensor, shape: readonly number[]): Tensor {
  assert(sizeOf(tensor.shape) === sizeOf(shape), `reshape keeps the size: ${tensor.shape} to ${shape}`);
  return { ...tensor, shape };
}

/** Row-major strides in elements. */
export function stridesOf(shape: readonly number[]): number[] {
  const strides = new Array<number>(shape.length);
  let step = 1;
  for (let axis = shape.length - 1; axis >= 0; axis--) {
    strides[axis] = step;
    step *= shape[axis]!;
  }
  return strides;
}
