import { concat, fromUtf8, utf8 } from "@tutti/foundation/bytes";
import { assert, demand } from "@tutti/foundation/check";
import { Fault } from "@tutti/foundation/fault";
import type { TensorSpec } from "@tutti/update/layout";
import { widenBfloat16, widenFloat16 } from "./half-bits.ts";
import { duplicateKey } from "./json-keys.ts";

/**
 * The safetensors format: a little-endian u64 header length, a JSON header, then the data. Written down in
 * the reference's README ("Format"); the checks are those of its "Benefits" section, since a file may be
 * hostile.
 */

/** Bytes per element; the narrower ones of newer drafts are refused by name. */
const WIDTHS = {
  F64: 8,
  I64: 8,
  U64: 8,
  F32: 4,
  I32: 4,
  U32: 4,
  F16: 2,
  BF16: 2,
  I16: 2,
  U16: 2,
  I8: 1,
  U8: 1,
  BOOL: 1,
  F8_E4M3: 1,
  F8_E5M2: 1,
} as const;

type SafeDType = keyof typeof WIDTHS;

/** A tensor as it lies in the file: `bytes` is a view, little-endian and row-major. */
export type RawTensor = {
  readonly dtype: SafeDType;
  readonly shape: readonly number[];
  readonly bytes: Uint8Array;
};

/** A tensor of floats; `dtype` says what the file held, `data` is float32 either way. */
export type FloatTensor = {
  readonly dtype: "F32" | "F16" | "BF16";
  readonly shape: readonly number[];
  readonly data: Float32Array;
};

type SafetensorsFile = {
  readonly metadata: Readonly<Record<string, string>>;
  readonly tensors: ReadonlyMap<string, RawTensor>;
};

/** The format's own limit on the header. */
const MAX_HEADER_BYTES = 100_000_000;
const METADATA = "__metadata__";

/**
 * All tensors of a file of floats, in file order; F16 and BF16 are widened. The data is copied out of
 * `bytes`.
 * @throws Fault("bad-input") for a malformed file, Fault("unsupported") for a tensor of another type.
 */
export function readSafetensors(bytes: Uint8Array): Map<string, FloatTensor> {
  const { tensors } = openSafetensors(bytes);
  return new Map([...tensors].map(([name, tensor]) => [name, floats(name, tensor)]));
}

/**
 * The checked file without decoding: views of every tensor's bytes, in file order.
 * @throws Fault("bad-input") naming the tensor and the rule it breaks.
 */
export function openSafetensors(bytes: Uint8Array): SafetensorsFile {
  const { header, data } = split(bytes);
  const { [METADATA]: metadata = {}, ...entries } = header;
  const tensors = new Map<string, RawTensor>();
  const spans: Span[] = [];
  for (const [name, entry] of Object.entries(entries)) {
    const { dtype, shape, begin, end } = readEntry(name, entry);
    spans.push({ name, begin, end });
    tensors.set(name, { dtype, shape, bytes: data.subarray(begin, end) });
  }
  checkContiguous(spans, data.length);
  return { metadata: readMetadata(metadata), tensors };
}

/**
 * A file of float32 tensors in the order given; the same tensors give the same bytes. The header is padded
 * with spaces to a multiple of 8, so that readers may map the data.
 */
export function writeSafetensors(
  tensors: readonly {
    readonly name: string;
    readonly shape: readonly number[];
    readonly data: Float32Array;
  }[],
  metadata?: Readonly<Record<string, string>>,
): Uint8Array {
  const entries: [string, unknown][] = metadata ? [[METADATA, metadata]] : [];
  let begin = 0;
  for (const { name, shape, data } of tensors) {
    const length = shape.reduce((product, size) => product * size, 1);
    assert(data.length === length, `safetensors: ${name} has ${data.length} values for shape [${shape}]`);
    assert(name !== METADATA, "safetensors: no tensor is called __metadata__");
    const end = begin + 4 * length;
    entries.push([name, { dtype: "F32", shape, data_offsets: [begin, end] }]);
    begin = end;
  }
  assert(new Set(entries.map(([name]) => name)).size === entries.length, "safetensors: distinct names");
  const json = utf8(objectText(entries));
  const header = concat(json, new Uint8Array((8 - (json.length % 8)) % 8).fill(0x20));
  const length = new Uint8Array(8);
  new DataView(length.buffer).setBigUint64(0, BigInt(header.length), true);
  return concat(length, header, ...tensors.map(({ data }) => bytesOf(data)));
}

/**
 * An adapter's file: exactly these tensors, float32, in this order. Every device and the coordinator make the
 * same bytes of the same values.
 */
export function writeTensors(
  specs: readonly TensorSpec[],
  data: ReadonlyMap<string, Float32Array>,
): Uint8Array {
  assert(data.size === specs.length, `safetensors: ${data.size} tensors for ${specs.length} names`);
  return writeSafetensors(
    specs.map(({ name, shape }) => {
      const values = data.get(name);
      assert(values, `safetensors: no data for ${name}`);
      return { name, shape, data: values };
    }),
  );
}

/**
 * The tensors of an adapter's file, by name in the order of `specs`. Half-width floats are not widened here:
 * what was hashed and signed is float32.
 * @throws Fault("bad-input") unless the file holds exactly these names, in these shapes, as F32.
 */
export function readTensors(specs: readonly TensorSpec[], bytes: Uint8Array): Map<string, Float32Array> {
  const { tensors } = openSafetensors(bytes);
  demand(tensors.size === specs.length, () => bad("adapter", `${specs.length} tensors`, `${tensors.size}`));
  return new Map(
    specs.map(({ name, shape }) => {
      const found = tensors.get(name);
      const got = found ? `${found.dtype} [${found.shape}]` : "none";
      demand(found && got === `F32 [${shape}]`, () => bad(`tensor ${name}`, `F32 [${shape}]`, got));
      return [name, floats(name, found).data];
    }),
  );
}

/** JSON of an object whose keys keep their order; a plain object would move number-like keys to the front. */
function objectText(entries: readonly (readonly [string, unknown])[]): string {
  return `{${entries.map(([key, value]) => `${JSON.stringify(key)}:${JSON.stringify(value)}`).join(",")}}`;
}

function bytesOf(data: Float32Array): Uint8Array {
  return new Uint8Array(data.buffer, data.byteOffset, data.byteLength);
}

type Span = { readonly name: string; readonly begin: number; readonly end: number };

function split(bytes: Uint8Array): { header: Record<string, unknown>; data: Uint8Array } {
  demand(bytes.length >= 8, () => bad("length", "at least 8 bytes", `${bytes.length}`));
  const length = Number(new DataView(bytes.buffer, bytes.byteOffset).getBigUint64(0, true));
  const most = Math.min(MAX_HEADER_BYTES, bytes.length - 8);
  demand(length <= most, () => bad("header", `at most ${most} bytes`, `${length}`));
  const text = fromUtf8(bytes.subarray(8, 8 + length), "safetensors header");
  return { header: parseHeader(text), data: bytes.subarray(8 + length) };
}

function parseHeader(text: string): Record<string, unknown> {
  let header: unknown;
  try {
    header = JSON.parse(text);
  } catch (cause) {
    throw new Fault("bad-input", "safetensors header", { expected: "JSON", got: "other text", cause });
  }
  demand(isObject(header), () => bad("header", "a JSON object", typeof header));
  const twice = duplicateKey(text);
  demand(twice === undefined, () => bad("header", "distinct names", `two of ${twice}`));
  return header;
}

type Entry = { dtype: SafeDType; shape: readonly number[]; begin: number; end: number };

function readEntry(name: string, entry: unknown): Entry {
  const what = `tensor ${name}`;
  demand(isObject(entry), () => bad(what, "an object", typeof entry));
  const { dtype, shape, data_offsets: offsets } = entry;
  demand(isDType(dtype), () => {
    const expected = Object.keys(WIDTHS).join(", ");
    return new Fault("unsupported", `safetensors ${what}: dtype`, { expected, got: String(dtype) });
  });
  demand(isNaturals(shape), () => bad(`${what}: shape`, "natural numbers", JSON.stringify(shape)));
  demand(isNaturals(offsets) && offsets.length === 2, () =>
    bad(`${what}: data_offsets`, "two natural numbers", JSON.stringify(offsets)),
  );
  const [begin, end] = offsets as readonly [number, number];
  // A product that leaves the safe integers becomes too large, never accidentally right: no factor is a
  // fraction.
  const size = shape.includes(0)
    ? 0
    : shape.reduce((product, dimension) => product * dimension, WIDTHS[dtype]);
  demand(end - begin === size, () => bad(what, `${size} bytes of ${dtype} [${shape}]`, `${begin}..${end}`));
  return { dtype, shape, begin, end };
}

/** No holes, no overlaps, nothing after the last tensor: a byte of the file belongs to one tensor. */
function checkContiguous(spans: readonly Span[], length: number): void {
  let at = 0;
  for (const { name, begin, end } of spans.toSorted((a, b) => a.begin - b.begin || a.end - b.end)) {
    demand(begin === at, () => bad(`tensor ${name}`, `data from ${at}`, `from ${begin}`));
    at = end;
  }
  demand(at === length, () => bad("data", `${at} bytes`, `${length}`));
}

function readMetadata(value: unknown): Readonly<Record<string, string>> {
  const strings = isObject(value) && Object.values(value).every((text) => typeof text === "string");
  demand(strings, () => bad(METADATA, "strings", JSON.stringify(value)));
  return value as Readonly<Record<string, string>>;
}

function floats(name: string, { dtype, shape, bytes }: RawTensor): FloatTensor {
  if (dtype === "F32" || dtype === "F16" || dtype === "BF16") {
    return { dtype, shape, data: widened(dtype, bytes) };
  }
  throw new Fault("unsupported", `safetensors tensor ${name}: dtype`, {
    expected: "F32, F16 or BF16",
    got: dtype,
  });
}

/** Little-endian floats as float32, out of a file that may hold them at any place. */
export function widened(dtype: FloatTensor["dtype"], bytes: Uint8Array): Float32Array {
  // Copied: views must begin at a multiple of their width.
  const { buffer } = new Uint8Array(bytes);
  if (dtype === "F32") return new Float32Array(buffer);
  const halves = new Uint16Array(buffer);
  return dtype === "F16" ? widenFloat16(halves) : widenBfloat16(halves);
}

function isDType(value: unknown): value is SafeDType {
  return typeof value === "string" && Object.hasOwn(WIDTHS, value);
}

function isNaturals(value: unknown): value is readonly number[] {
  return Array.isArray(value) && value.every((item) => Number.isSafeInteger(item) && item >= 0);
}

function isObject(value: unknown): value is Record<string, unknown> {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}

function bad(what: string, expected: string, got: string): Fault {
  return new Fault("bad-input", `safetensors ${what}`, { expected, got });
}
