import { fromUtf8, utf8 } from "@tutti/foundation/bytes";
import { assert, demand } from "@tutti/foundation/check";
import { Fault } from "@tutti/foundation/fault";

/**
 * onnxruntime's .onnx_adapter: a FlatBuffer of named tensors (onnxruntime, lora/adapter_format,
 * adapter_schema.fbs). Written and read here by hand: the schema has two tables, and the FlatBuffers runtime
 * for JavaScript has no verifier, so that a hostile offset would read anywhere or nowhere.
 *
 *   Adapter   { format_version, adapter_version, model_version: int32; parameters: [Parameter] }
 *   Parameter { name: string; dims: [int64]; data_type: int32; raw_data: [uint8], aligned to 8 }
 */

/** data_type has ONNX's numbers; with each the bytes per value. */
const FLOATS = { F32: [1, 4], F16: [10, 2], BF16: [16, 2] } as const;
export type ParameterDType = keyof typeof FLOATS;

export type Parameter = {
  readonly dtype: ParameterDType;
  readonly shape: readonly number[];
  /** Little-endian; a view of the file. */
  readonly bytes: Uint8Array;
};

export type OnnxAdapterFile = {
  /** The writer's own counts, nothing that a reader checks. */
  readonly adapterVersion: number;
  readonly modelVersion: number;
  readonly parameters: ReadonlyMap<string, Parameter>;
};

const IDENTIFIER = "TORT";
const FORMAT_VERSION = 1;
const MAX_PARAMETERS = 65_536;
const MAX_DIMENSIONS = 8;
/** FlatBuffers' own limit: offsets are signed 32-bit numbers in places. */
const MAX_BYTES = 2 ** 31 - 1;

/** Whether bytes bear the file identifier of an adapter. */
export function isOnnxAdapter(bytes: Uint8Array): boolean {
  return bytes.length >= 8 && [...IDENTIFIER].every((letter, i) => bytes[4 + i] === letter.charCodeAt(0));
}

/**
 * The checked file; parameters in file order, their bytes views of `bytes`.
 * @throws Fault("bad-input") for bytes that are no such FlatBuffer; Fault("unsupported") for another format
 * version or a parameter that is not of floats.
 */
export function readOnnxAdapter(bytes: Uint8Array): OnnxAdapterFile {
  demand(isOnnxAdapter(bytes), () => bad("file", `the identifier ${IDENTIFIER}`, "another"));
  const reader = new Tables(bytes);
  const root = reader.table(reader.follow(0));
  const version = reader.int32(root, 0);
  demand(version === FORMAT_VERSION, () => unsupported("format_version", `${FORMAT_VERSION}`, `${version}`));
  const parameters = new Map<string, Parameter>();
  for (const at of reader.tables(root, 3)) {
    const [name, parameter] = readParameter(reader, at);
    demand(!parameters.has(name), () => bad("parameters", "distinct names", `two of ${name}`));
    parameters.set(name, parameter);
  }
  return { adapterVersion: reader.int32(root, 1), modelVersion: reader.int32(root, 2), parameters };
}

function readParameter(reader: Tables, table: Table): readonly [string, Parameter] {
  const name = fromUtf8(reader.vector(table, 0, 1), "onnx_adapter: parameter name");
  demand(name !== "", () => bad("parameter", "a name", "none"));
  const dims = reader.vector(table, 1, 8);
  const view = new DataView(dims.buffer, dims.byteOffset, dims.byteLength);
  demand(dims.length <= 8 * MAX_DIMENSIONS, () =>
    bad(`parameter ${name}`, `at most ${MAX_DIMENSIONS} dimensions`, `${dims.length / 8}`),
  );
  const shape = Array.from({ length: dims.length / 8 }, (_, i) => {
    const size = view.getBigInt64(8 * i, true);
    const natural = size >= 0n && size <= BigInt(MAX_BYTES);
    demand(natural, () => bad(`parameter ${name}`, "natural sizes", `${size}`));
    return Number(size);
  });
  const type = reader.int32(table, 2);
  const dtype = (Object.keys(FLOATS) as ParameterDType[]).find((key) => FLOATS[key][0] === type);
  demand(dtype, () => unsupported(`parameter ${name}: data type`, "F32, F16 or BF16", `${type}`));
  const raw = reader.vector(table, 3, 1);
  const length = shape.reduce((product, size) => product * size, FLOATS[dtype][1]);
  demand(raw.length === length, () =>
    bad(`parameter ${name}`, `${length} bytes of [${shape}]`, `${raw.length}`),
  );
  return [name, { dtype, shape, bytes: raw }];
}

/** A table's place and its vtable's, with the sizes of both. */
type Table = { readonly at: number; readonly size: number; readonly vtable: number; readonly fields: number };

/** Reads by FlatBuffers' rules ("FlatBuffer Internals"), every offset held against the file. */
class Tables {
  readonly #bytes: Uint8Array;
  readonly #view: DataView;
  /** Bytes that vectors may still show: in an honest file none is shown twice. */
  #left: number;

  constructor(bytes: Uint8Array) {
    this.#bytes = bytes;
    this.#view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
    this.#left = bytes.length;
  }

  #inside(at: number, length: number): void {
    const { length: whole } = this.#bytes;
    const inside = at >= 0 && length <= whole && at <= whole - length;
    demand(inside, () => bad("offset", `${length} bytes within ${whole}`, `${at}`));
  }

  #uint32(at: number): number {
    this.#inside(at, 4);
    return this.#view.getUint32(at, true);
  }

  #uint16(at: number): number {
    this.#inside(at, 2);
    return this.#view.getUint16(at, true);
  }

  /** Where the offset at `at` leads. */
  follow(at: number): number {
    return at + this.#uint32(at);
  }

  table(at: number): Table {
    this.#inside(at, 4);
    const vtable = at - this.#view.getInt32(at, true);
    const [length, size] = [this.#uint16(vtable), this.#uint16(vtable + 2)];
    this.#inside(vtable, length);
    this.#inside(at, size);
    return { at, size, vtable, fields: (length - 4) >> 1 };
  }

  /** Where a field of four bytes lies; undefined where the table leaves it out. */
  #field({ at, size, vtable, fields }: Table, index: number): number | undefined {
    const offset = index < fields ? this.#uint16(vtable + 4 + 2 * index) : 0;
    if (offset === 0) return undefined;
    demand(offset >= 4 && offset + 4 <= size, () => bad("table", "fields inside it", `one at ${offset}`));
    return at + offset;
  }

  int32(table: Table, index: number): number {
    const at = this.#field(table, index);
    return at === undefined ? 0 : this.#view.getInt32(at, true);
  }

  /** The bytes of a vector of values `width` bytes wide. */
  vector(table: Table, index: number, width: number): Uint8Array {
    const field = this.#field(table, index);
    if (field === undefined) return new Uint8Array();
    const at = this.follow(field);
    const length = this.#uint32(at) * width;
    this.#inside(at + 4, length);
    this.#left -= length + 4;
    demand(this.#left >= 0, () => bad("vectors", "bytes that no two share", "an overlap"));
    return this.#bytes.subarray(at + 4, at + 4 + length);
  }

  tables(table: Table, index: number): readonly Table[] {
    const offsets = this.vector(table, index, 4);
    const count = offsets.length / 4;
    demand(count <= MAX_PARAMETERS, () => bad("parameters", `at most ${MAX_PARAMETERS}`, `${count}`));
    const from = offsets.byteOffset - this.#bytes.byteOffset;
    return Array.from({ length: count }, (_, i) => this.table(this.follow(from + 4 * i)));
  }
}

/** The reverse of `readOnnxAdapter`: the same content gives the same bytes. */
export function writeOnnxAdapter(file: OnnxAdapterFile): Uint8Array {
  const parameters = [...file.parameters].map(([name, parameter]) => ({ name: utf8(name), ...parameter }));
  const plan = planned(parameters);
  demand(plan.bytes <= MAX_BYTES, () => bad("file", `at most ${MAX_BYTES} bytes`, `${plan.bytes}`));
  const bytes = new Uint8Array(plan.bytes);
  const view = new DataView(bytes.buffer);
  const shorts = (at: number, values: readonly number[]) =>
    values.forEach((value, i) => void view.setUint16(at + 2 * i, value, true));
  const ints = (at: number, values: readonly number[]) =>
    values.forEach((value, i) => void view.setInt32(at + 4 * i, value, true));
  ints(0, [ROOT]);
  bytes.set(utf8(IDENTIFIER), 4);
  // Both tables have four fields of four bytes after the offset to their vtable: one vtable serves both.
  shorts(VTABLE, [12, 20, 4, 8, 12, 16]);
  ints(ROOT, [ROOT - VTABLE, FORMAT_VERSION, file.adapterVersion, file.modelVersion, VECTOR - (ROOT + 16)]);
  ints(VECTOR, [parameters.length]);
  for (const [i, { name, dtype, shape, bytes: raw }] of parameters.entries()) {
    const { table, name: nameAt, dims, data } = plan.places[i]!;
    const [type, width] = FLOATS[dtype];
    assert(raw.length === shape.reduce((product, size) => product * size, width), "raw data fits its shape");
    ints(VECTOR + 4 + 4 * i, [table - (VECTOR + 4 + 4 * i)]);
    ints(table, [table - VTABLE, nameAt - (table + 4), dims - (table + 8), type, data - (table + 16)]);
    ints(nameAt, [name.length]);
    bytes.set(name, nameAt + 4);
    ints(dims, [shape.length]);
    shape.forEach((size, d) => void view.setBigInt64(dims + 4 + 8 * d, BigInt(size), true));
    ints(data, [raw.length]);
    bytes.set(raw, data + 4);
  }
  return bytes;
}

/** Fixed places: root offset and identifier, the vtable, the root table, the vector of parameters. */
const VTABLE = 8;
const ROOT = 20;
const VECTOR = 40;

type Place = { readonly table: number; readonly name: number; readonly dims: number; readonly data: number };

/** Where everything goes: offsets point forward, so a table comes before what it names. */
function planned(
  parameters: readonly {
    readonly name: Uint8Array;
    readonly shape: readonly number[];
    readonly bytes: Uint8Array;
  }[],
): { readonly places: readonly Place[]; readonly bytes: number } {
  let at = VECTOR + 4 + 4 * parameters.length;
  const places = parameters.map(({ name, shape, bytes }): Place => {
    const table = aligned(at, 4);
    const nameAt = table + 20;
    // Strings end in a zero byte that their length does not count.
    const dims = beforeEight(nameAt + 4 + name.length + 1);
    const data = beforeEight(dims + 4 + 8 * shape.length);
    at = data + 4 + bytes.length;
    return { table, name: nameAt, dims, data };
  });
  return { places, bytes: aligned(at, 4) };
}

/** A place for a vector's length such that its values begin at a multiple of 8. */
function beforeEight(at: number): number {
  return aligned(at + 4, 8) - 4;
}

function aligned(at: number, to: number): number {
  return Math.ceil(at / to) * to;
}

function bad(what: string, expected: string, got: string): Fault {
  return new Fault("bad-input", `onnx_adapter ${what}`, { expected, got });
}

function unsupported(what: string, expected: string, got: string): Fault {
  return new Fault("unsupported", `onnx_adapter ${what}`, { expected, got });
}
