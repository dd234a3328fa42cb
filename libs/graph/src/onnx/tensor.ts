import { fromUtf8, utf8 } from "@tutti/foundation/bytes";
import { assert } from "@tutti/foundation/check";
import { Fault } from "@tutti/foundation/fault";
import { create } from "@tutti/wire/message";
import { type TensorProto, TensorProto_DataLocation, TensorProtoSchema } from "@tutti/wire/onnx";
import { fromBfloat16 } from "../half.ts";
import { type DType, sizeOf, type Tensor, type TensorData } from "../ir.ts";
import { LIMITS, type Limits } from "../limits.ts";
import { packed } from "../quantised.ts";
import { allocate, bytesPer, type Numeric, numeric } from "../tensor.ts";
import { BFLOAT16, dtypeCode, dtypeOf, type Narrow, narrowOf } from "./dtype.ts";

/**
 * Bytes kept outside the model file, by the location the file names. A file of fewer than `least` bytes is
 * refused afterwards, so need not be read.
 */
export type ExternalData = (location: string, least?: number) => Uint8Array;

export type TensorOptions = { readonly externalData?: ExternalData | undefined; readonly limits?: Limits };

// Typed arrays take the host's byte order and ONNX is little-endian. Every platform JavaScript runs on
// today is.
assert(new Uint8Array(new Uint16Array([1]).buffer)[0] === 1, "the host is little-endian");

/**
 * A tensor of the file, in any of the forms the standard allows (onnx.proto3, TensorProto). Raw data is not
 * copied where its alignment permits. bfloat16 widens to float32, integers of 2 and 4 bits to 8.
 */
export function readTensor(proto: TensorProto, what: string, options: TensorOptions = {}): Tensor {
  const shape = readShape(proto, what, options.limits ?? LIMITS);
  const narrow = narrowOf(proto.dataType);
  if (narrow)
    return { dtype: narrow.dtype, shape, data: unpacked(proto, what, { ...narrow, shape, options }) };
  const dtype = proto.dataType === BFLOAT16 ? "float32" : dtypeOf(proto.dataType, what);
  const length = sizeOf(shape);
  if (dtype === "string") return { dtype, shape, data: strings(proto, what, length) };
  const raw = rawBytes(proto, what, options);
  if (proto.dataType === BFLOAT16) return { dtype, shape, data: bfloat16(proto, what, { raw, length }) };
  if (raw) return { dtype, shape, data: view(raw, what, { dtype, length }) };
  const data = typed(proto, dtype);
  demandLength(what, { unit: "elements", expected: length, got: data.length });
  return { dtype, shape, data };
}

/** The message for a tensor: raw little-endian bytes, or strings. Shares storage with the tensor. */
export function writeTensor(name: string, tensor: Tensor): TensorProto {
  const init = { name, dims: tensor.shape.map(BigInt), dataType: dtypeCode(tensor.dtype) };
  if (tensor.dtype === "string")
    return create(TensorProtoSchema, { ...init, stringData: (tensor.data as readonly string[]).map(utf8) });
  const data = numeric(tensor);
  const rawData = new Uint8Array(data.buffer as ArrayBuffer, data.byteOffset, data.byteLength);
  return create(TensorProtoSchema, { ...init, rawData });
}

/** Dimensions, checked before anything is allocated: no negative ones, no product beyond the limit. */
function readShape(proto: TensorProto, what: string, limits: Limits): number[] {
  if (proto.dims.length > limits.rank)
    throw new Fault("bad-input", `${what}: rank`, {
      expected: `≤ ${limits.rank}`,
      got: `${proto.dims.length}`,
    });
  const product = proto.dims.reduce((size, dim) => size * dim, 1n);
  if (proto.dims.some((dim) => dim < 0n) || product > BigInt(limits.elements)) {
    const expected = `at most ${limits.elements} elements`;
    throw new Fault("bad-input", `${what}: dimensions`, { expected, got: `[${proto.dims}]` });
  }
  return proto.dims.map(Number);
}

/** Bytes in raw_data or outside the file; undefined where the values stand in a typed field. */
function rawBytes(proto: TensorProto, what: string, options: TensorOptions): Uint8Array | undefined {
  if (proto.dataLocation === TensorProto_DataLocation.EXTERNAL) return external(proto, what, options);
  return proto.rawData.length > 0 ? proto.rawData : undefined;
}

function external(proto: TensorProto, what: string, { externalData }: TensorOptions): Uint8Array {
  const entries = new Map(proto.externalData.map(({ key, value }) => [key, value]));
  const location = entries.get("location") ?? "";
  if (!externalData) {
    const todo = "Pass `externalData` to read weights kept outside the model file";
    throw new Fault("refused", `${what}: external data`, { got: location, todo });
  }
  const offset = natural(entries.get("offset") ?? "0", `${what}: offset`);
  const given = entries.get("length");
  const least = offset + (given === undefined ? 0 : natural(given, `${what}: length`));
  const file = externalData(location, least);
  const length = given === undefined ? Math.max(file.length - offset, 0) : least - offset;
  if (offset + length > file.length) {
    const got = `${offset}..${offset + length}`;
    throw new Fault("bad-input", `${what}: external data`, { expected: `within ${file.length} bytes`, got });
  }
  return file.subarray(offset, offset + length);
}

function natural(text: string, what: string): number {
  const value = Number(text);
  if (/^\d+$/.test(text) && Number.isSafeInteger(value)) return value;
  throw new Fault("bad-input", what, { expected: "a natural number", got: text });
}

function view(raw: Uint8Array, what: string, { dtype, length }: { dtype: DType; length: number }): Numeric {
  const width = bytesPer(dtype);
  demandLength(what, { unit: "bytes", expected: length * width, got: raw.length });
  // A copy by constructor: `slice` of a Node Buffer would be another view.
  const aligned = raw.byteOffset % width === 0 ? raw : new Uint8Array(raw);
  const [buffer, at] = [aligned.buffer as ArrayBuffer, aligned.byteOffset];
  switch (dtype) {
    case "float32":
      return new Float32Array(buffer, at, length);
    case "float64":
      return new Float64Array(buffer, at, length);
    case "int64":
      return new BigInt64Array(buffer, at, length);
    case "int32":
      return new Int32Array(buffer, at, length);
    case "float16":
      return new Uint16Array(buffer, at, length);
    case "int8":
      return new Int8Array(buffer, at, length);
    default:
      return new Uint8Array(buffer, at, length);
  }
}

/** The typed fields: small integers, bool and halves all live in int32_data (onnx.proto3, TensorProto). */
function typed(proto: TensorProto, dtype: DType): Numeric {
  if (dtype === "float32") return Float32Array.from(proto.floatData);
  if (dtype === "float64") return Float64Array.from(proto.doubleData);
  if (dtype === "int64") return BigInt64Array.from(proto.int64Data);
  const data = allocate(dtype, proto.int32Data.length);
  proto.int32Data.forEach((value, i) => {
    data[i] = value;
  });
  return data;
}

function bfloat16(
  proto: TensorProto,
  what: string,
  { raw, length }: { raw: Uint8Array | undefined; length: number },
): Float32Array {
  const halves = raw ? view(raw, what, { dtype: "float16", length }) : typed(proto, "float16");
  demandLength(what, { unit: "elements", expected: length, got: halves.length });
  return Float32Array.from(halves as Uint16Array, fromBfloat16);
}

/** Lowest bits first, the last byte padded; int32_data holds a byte per entry (onnx.proto3, TensorProto). */
function unpacked(
  proto: TensorProto,
  what: string,
  { dtype, bits, shape, options }: Narrow & { shape: readonly number[]; options: TensorOptions },
): Numeric {
  const bytes = rawBytes(proto, what, options) ?? Uint8Array.from(proto.int32Data);
  const length = sizeOf(shape);
  demandLength(what, { unit: "bytes", expected: Math.ceil((length * bits) / 8), got: bytes.length });
  const data = allocate(dtype, length);
  // Bits moved to the top of an int32 and back bring the sign along.
  const signed = (value: number) => (value << (32 - bits)) >> (32 - bits);
  for (let i = 0; i < length; i++) {
    const value = packed(bytes, bits, i);
    data[i] = dtype === "int8" ? signed(value) : value;
  }
  return data;
}

function strings(proto: TensorProto, what: string, length: number): TensorData {
  demandLength(what, { unit: "strings", expected: length, got: proto.stringData.length });
  return proto.stringData.map((bytes) => fromUtf8(bytes, what));
}

function demandLength(
  what: string,
  { unit, expected, got }: { unit: string; expected: number; got: number },
) {
  if (expected !== got)
    throw new Fault("bad-input", `${what}: data`, { expected: `${expected} ${unit}`, got: `${got}` });
}
