import { Fault } from "@tutti/foundation/fault";
import { fromHalf, toHalf } from "../../half.ts";
import type { DType, Tensor } from "../../ir.ts";
import type { Tf, TfTensor } from "./tfjs.ts";

/** The three element types tfjs computes with. */
export type TfType = "float32" | "int32" | "bool";

const LOW = -(2n ** 31n);
const HIGH = 2n ** 31n - 1n;

/**
 * How a dtype lives in tfjs: all integers as int32 (each element range-checked on the way in), other floats
 * as float32. Strings are refused by name.
 */
export function tfType(dtype: DType, what: string): TfType {
  switch (dtype) {
    case "float32":
    case "float64":
    case "float16":
      return "float32";
    case "int64":
    case "int32":
    case "uint8":
    case "int8":
      return "int32";
    case "bool":
      return "bool";
    case "string":
      throw new Fault("unsupported", what, { expected: "a dtype the tfjs engine computes with", got: dtype });
  }
}

/** Our tensor as a tfjs tensor on the backend in force; a Fault names `what` when a value does not fit. */
export function upload(tf: Tf, tensor: Tensor, what: string): TfTensor {
  const type = tfType(tensor.dtype, what);
  return tf.tensor(plain(tensor, what), [...tensor.shape], type);
}

function plain(tensor: Tensor, what: string): Float32Array | Int32Array | Uint8Array {
  const { data } = tensor;
  if (data instanceof BigInt64Array) return narrow(data, what);
  if (data instanceof Float32Array || data instanceof Int32Array) return data;
  if (tensor.dtype === "float16") return Float32Array.from(data as Uint16Array, fromHalf);
  if (data instanceof Float64Array) return Float32Array.from(data);
  if (data instanceof Uint8Array && tensor.dtype === "bool") return data;
  return Int32Array.from(data as Uint8Array | Int8Array);
}

function narrow(data: BigInt64Array, what: string): Int32Array {
  const out = new Int32Array(data.length);
  for (let i = 0; i < data.length; i++) {
    const value = data[i]!;
    if (value < LOW || value > HIGH) {
      throw new Fault("unsupported", `${what}[${i}]`, {
        expected: "an int64 within 32 bits",
        got: `${value}`,
      });
    }
    out[i] = Number(value);
  }
  return out;
}

/** The tensor's values back under the dtype the graph declares; always a copy, never tfjs's own storage. */
export async function download(tensor: TfTensor, dtype: DType, shape: readonly number[]): Promise<Tensor> {
  const values = await tensor.data();
  return { dtype, shape, data: widen(values as Float32Array | Int32Array | Uint8Array, dtype) };
}

function widen(
  values: Float32Array | Int32Array | Uint8Array,
  dtype: DType,
): Exclude<Tensor["data"], readonly string[]> {
  switch (dtype) {
    case "int64":
      return BigInt64Array.from(values, BigInt);
    case "int32":
      return Int32Array.from(values);
    case "uint8":
      return Uint8Array.from(values);
    case "int8":
      return Int8Array.from(values);
    case "bool":
      return Uint8Array.from(values, (value) => (value === 0 ? 0 : 1));
    case "float64":
      return Float64Array.from(values);
    case "float16":
      return Uint16Array.from(values, toHalf);
    default:
      return Float32Array.from(values);
  }
}
