import { concat, u32, utf8 } from "@tutti/foundation/bytes";
import { assert, demand } from "@tutti/foundation/check";
import { Fault } from "@tutti/foundation/fault";
import { type Field, Reader } from "./gguf-fields.ts";

/**
 * The GGUF container, version 3, little-endian (ggml, gguf.md): typed metadata, tensor descriptions,
 * then the data of the tensors in the same order, each begun at a multiple of the alignment. Everything that
 * a file says of its own size is held against the bytes that are there before anything is made of it.
 */

/** Scalar types by their number in the file; 9 is the array. */
const SCALARS = [
  "uint8",
  "int8",
  "uint16",
  "int16",
  "uint32",
  "int32",
  "float32",
  "bool",
  "string",
  undefined,
  "uint64",
  "int64",
  "float64",
] as const;
const ARRAY = 9;

export type GgufScalar = NonNullable<(typeof SCALARS)[number]>;

/** A metadata value; an array's elements stay as they lie in the file. */
export type GgufValue =
  | { readonly type: GgufScalar; readonly value: Field }
  | {
      readonly type: "array";
      readonly of: GgufScalar;
      readonly count: number;
      readonly bytes: Uint8Array;
    };

/** Types of tensors that hold floats one by one: ggml's number, bytes per value. */
const FLOATS = { F32: [0, 4], F16: [1, 2], BF16: [30, 2] } as const;
export type GgufDType = keyof typeof FLOATS;

/** `shape` is row-major as elsewhere (the file has it reversed); `bytes` is a view of the file. */
export type GgufTensor = {
  readonly dtype: GgufDType;
  readonly shape: readonly number[];
  readonly bytes: Uint8Array;
};

export type GgufFile = {
  readonly metadata: ReadonlyMap<string, GgufValue>;
  readonly tensors: ReadonlyMap<string, GgufTensor>;
};

/** "GGUF" */
const MAGIC = 0x46554747;
const VERSION = 3;
const ALIGNMENT_KEY = "general.alignment";
const DEFAULT_ALIGNMENT = 32;
/** Far above any adapter; a file of nothing but descriptions must not become a million objects. */
const MAX_TENSORS = 65_536;
const MAX_KEYS = 4_096;
/** ggml keeps names in 64 bytes with a final zero, and at most four sizes. */
const MAX_NAME_BYTES = 63;
const MAX_DIMENSIONS = 4;

/** Whether bytes begin as a GGUF file does. */
export function isGguf(bytes: Uint8Array): boolean {
  return bytes.length >= 4 && new DataView(bytes.buffer, bytes.byteOffset).getUint32(0, true) === MAGIC;
}

/**
 * The checked container. Tensor bytes are views of `bytes`.
 * @throws Fault("bad-input") naming the key or tensor that breaks a rule; Fault("unsupported") for another
 * version, an unknown value type, or a tensor that is not of floats (quantised).
 */
export function readGguf(bytes: Uint8Array): GgufFile {
  const reader = new Reader("GGUF", bytes);
  demand(isGguf(bytes), () => bad("file", 'the letters "GGUF"', "others"));
  reader.uint32("magic");
  const version = reader.uint32("version");
  demand(version === VERSION, () => unsupported("version", `${VERSION}, little-endian`, `${version}`));
  const tensorCount = reader.count("number of tensors", MAX_TENSORS);
  const keyCount = reader.count("number of keys", MAX_KEYS);
  const metadata = new Map<string, GgufValue>();
  for (let i = 0; i < keyCount; i++) {
    const key = reader.string("key");
    demand(!metadata.has(key), () => bad("metadata", "distinct keys", `two of ${key}`));
    metadata.set(key, readValue(reader, key));
  }
  const infos = Array.from({ length: tensorCount }, () => readInfo(reader));
  return { metadata, tensors: placed(bytes, { infos, at: reader.at, alignment: alignmentOf(metadata) }) };
}

function readValue(reader: Reader, key: string): GgufValue {
  const type = reader.uint32(`type of ${key}`);
  if (type !== ARRAY) {
    const scalar = scalarOf(type, key);
    return { type: scalar, value: reader.field(scalar, key) };
  }
  const of = scalarOf(reader.uint32(`element type of ${key}`), key);
  const count = reader.count(`length of ${key}`, Number.MAX_SAFE_INTEGER);
  const from = reader.at;
  if (of === "string") for (let i = 0; i < count; i++) reader.string(key);
  else reader.skip(count * reader.widthOf(of), key);
  return { type: "array", of, count, bytes: reader.since(from) };
}

function scalarOf(type: number, key: string): GgufScalar {
  const scalar = SCALARS[type];
  demand(scalar, () => unsupported(`value type of ${key}`, "one of 0 to 8 and 10 to 12", `${type}`));
  return scalar;
}

type Info = { name: string; dtype: GgufDType; shape: readonly number[]; offset: number; length: number };

function readInfo(reader: Reader): Info {
  const name = reader.string("tensor name");
  const nameBytes = utf8(name).length;
  demand(nameBytes <= MAX_NAME_BYTES, () =>
    bad("tensor name", `at most ${MAX_NAME_BYTES} bytes`, `${nameBytes}`),
  );
  const dimensions = reader.uint32(`dimensions of ${name}`);
  demand(dimensions >= 1 && dimensions <= MAX_DIMENSIONS, () =>
    bad(`tensor ${name}`, `1 to ${MAX_DIMENSIONS} dimensions`, `${dimensions}`),
  );
  const reversed = Array.from({ length: dimensions }, () =>
    reader.count(`size of ${name}`, Number.MAX_SAFE_INTEGER),
  );
  demand(!reversed.includes(0), () => bad(`tensor ${name}`, "sizes above 0", `[${reversed}]`));
  const type = reader.uint32(`type of ${name}`);
  const dtype = (Object.keys(FLOATS) as GgufDType[]).find((key) => FLOATS[key][0] === type);
  demand(dtype, () => unsupported(`tensor ${name}: type`, "F32, F16 or BF16", `ggml type ${type}`));
  const offset = reader.count(`offset of ${name}`, Number.MAX_SAFE_INTEGER);
  // A product beyond the safe integers is too large for any file, never accidentally right.
  const length = reversed.reduce((product, size) => product * size, FLOATS[dtype][1]);
  return { name, dtype, shape: reversed.toReversed(), offset, length };
}

/** The tensors where they must lie: in the order of their descriptions, no hole but the padding. */
function placed(
  bytes: Uint8Array,
  { infos, at, alignment }: { infos: readonly Info[]; at: number; alignment: number },
): ReadonlyMap<string, GgufTensor> {
  const start = padded(at, alignment);
  const tensors = new Map<string, GgufTensor>();
  let end = start;
  for (const { name, dtype, shape, offset, length } of infos) {
    const from = padded(end, alignment);
    demand(start + offset === from, () => bad(`tensor ${name}`, `data at ${from - start}`, `at ${offset}`));
    end = from + length;
    demand(end <= bytes.length, () =>
      bad(`tensor ${name}`, `${length} bytes of ${dtype} [${shape}]`, `${bytes.length - from}`),
    );
    demand(!tensors.has(name), () => bad("tensors", "distinct names", `two of ${name}`));
    tensors.set(name, { dtype, shape, bytes: bytes.subarray(from, end) });
  }
  const whole = bytes.length === padded(end, alignment) || bytes.length === end;
  demand(whole || infos.length === 0, () => bad("data", `${end} bytes in all`, `${bytes.length}`));
  return tensors;
}

function alignmentOf(metadata: ReadonlyMap<string, GgufValue>): number {
  const given = metadata.get(ALIGNMENT_KEY);
  if (given === undefined) return DEFAULT_ALIGNMENT;
  const value = given.type === "uint32" ? Number(given.value) : 0;
  const power = value >= 8 && value <= 65_536 && (value & (value - 1)) === 0;
  demand(power, () => bad(ALIGNMENT_KEY, "a power of two from 8 to 65536", `${value || given.type}`));
  return value;
}

/** The reverse of `readGguf`: the same content gives the same bytes. */
export function writeGguf({ metadata, tensors }: GgufFile): Uint8Array {
  const alignment = alignmentOf(metadata);
  const parts = [u32(MAGIC), u32(VERSION), u64(tensors.size), u64(metadata.size)];
  for (const [key, value] of metadata) parts.push(stringBytes(key), ...valueBytes(value));
  let offset = 0;
  for (const [name, { dtype, shape, bytes }] of tensors) {
    const [type, width] = FLOATS[dtype];
    const length = shape.reduce((product, size) => product * size, width);
    assert(bytes.length === length && length > 0, `GGUF: ${name} has ${bytes.length} bytes for [${shape}]`);
    assert(
      utf8(name).length <= MAX_NAME_BYTES && shape.length <= MAX_DIMENSIONS,
      `GGUF has room for ${name}`,
    );
    const sizes = shape.toReversed().map((size) => u64(size));
    parts.push(stringBytes(name), u32(shape.length), ...sizes, u32(type), u64(offset));
    offset = padded(offset + length, alignment);
  }
  const head = parts.reduce((sum, part) => sum + part.length, 0);
  parts.push(zeros(head, alignment));
  for (const { bytes } of tensors.values()) parts.push(bytes, zeros(bytes.length, alignment));
  return concat(...parts);
}

function valueBytes(value: GgufValue): readonly Uint8Array[] {
  const number = (type: GgufScalar) => u32(SCALARS.indexOf(type));
  if (value.type === "array") return [u32(ARRAY), number(value.of), u64(value.count), value.bytes];
  return [number(value.type), scalarBytes(value.type, value.value)];
}

function scalarBytes(type: GgufScalar, value: Field): Uint8Array {
  if (type === "string") return stringBytes(String(value));
  const bytes = new Uint8Array(8);
  const view = new DataView(bytes.buffer);
  switch (type) {
    case "uint64":
      view.setBigUint64(0, BigInt(value), true);
      return bytes;
    case "int64":
      view.setBigInt64(0, BigInt(value), true);
      return bytes;
    case "float64":
      view.setFloat64(0, Number(value), true);
      return bytes;
    case "float32":
      view.setFloat32(0, Number(value), true);
      return bytes.subarray(0, 4);
    default:
      // Two's complement: the low bytes are the same whatever the width and sign.
      view.setInt32(0, Number(value), true);
      return bytes.subarray(0, type.endsWith("32") ? 4 : type.endsWith("16") ? 2 : 1);
  }
}

function stringBytes(text: string): Uint8Array {
  const bytes = utf8(text);
  return concat(u64(bytes.length), bytes);
}

function u64(value: number): Uint8Array {
  const bytes = new Uint8Array(8);
  new DataView(bytes.buffer).setBigUint64(0, BigInt(value), true);
  return bytes;
}

function padded(length: number, alignment: number): number {
  return Math.ceil(length / alignment) * alignment;
}

function zeros(length: number, alignment: number): Uint8Array {
  return new Uint8Array(padded(length, alignment) - length);
}

function bad(what: string, expected: string, got: string): Fault {
  return new Fault("bad-input", `GGUF ${what}`, { expected, got });
}

function unsupported(what: string, expected: string, got: string): Fault {
  return new Fault("unsupported", `GGUF ${what}`, { expected, got });
}
