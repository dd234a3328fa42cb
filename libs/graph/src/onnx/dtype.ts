import { Fault } from "@tutti/foundation/fault";
import type { DType } from "../ir.ts";

/** TensorProto.DataType (onnx.proto3) of the element types we compute with. */
const CODES: readonly (readonly [DType, number])[] = [
  ["float32", 1],
  ["uint8", 2],
  ["int8", 3],
  ["int32", 6],
  ["int64", 7],
  ["string", 8],
  ["bool", 9],
  ["float16", 10],
  ["float64", 11],
];
const toCode = new Map(CODES);
const fromCode = new Map(CODES.map(([dtype, code]) => [code, dtype]));

/** bfloat16: read from files, held as float32. */
export const BFLOAT16 = 16;

/** An integer type of less than a byte, several to a byte; held as the 8-bit type of its sign. */
export type Narrow = { readonly dtype: "uint8" | "int8"; readonly bits: 2 | 4 };

/** UINT4, INT4, UINT2 and INT2, which weights are quantised to (DequantizeLinear, since 21 and 25). */
const NARROW: ReadonlyMap<number, Narrow> = new Map([
  [21, { dtype: "uint8", bits: 4 }],
  [22, { dtype: "int8", bits: 4 }],
  [25, { dtype: "uint8", bits: 2 }],
  [26, { dtype: "int8", bits: 2 }],
]);

export function narrowOf(code: number): Narrow | undefined {
  return NARROW.get(code);
}

export function dtypeCode(dtype: DType): number {
  return toCode.get(dtype)!;
}

/** Our element type for ONNX's number; a Fault for one that we do not compute with. */
export function dtypeOf(code: number, what: string): DType {
  const dtype = fromCode.get(code);
  if (dtype) return dtype;
  throw new Fault("unsupported", `${what}: element type`, {
    expected: [...toCode.keys()].join(", "),
    got: `ONNX data type ${code}`,
  });
}
