import { BinaryReader, WireType } from "@bufbuild/protobuf/wire";
import { concat } from "@tutti/foundation/bytes";
import { assert } from "@tutti/foundation/check";
import { Fault } from "@tutti/foundation/fault";

/** A stretch of bytes, end excluded. */
export type Span = { readonly start: number; readonly end: number };

/**
 * A field where it lies: the whole of it with its tag, and its content (for length-delimited fields, without
 * length).
 */
export type WireField = Span & {
  readonly number: number;
  readonly kind: "varint" | "bytes" | "fixed32" | "fixed64" | "group";
  readonly content: Span;
};

/**
 * Walks one message without decoding it (protobuf encoding, "Message Structure"): the fields in their
 * order, with absolute positions in `bytes`. For editing a file in place when decoding and encoding it
 * again would not give the same bytes. Inside of `content` of a "bytes" field one may walk again.
 * @throws Fault("bad-message") where the bytes are not protobuf.
 */
export function* wireFields(
  bytes: Uint8Array,
  span: Span = { start: 0, end: bytes.length },
): Generator<WireField> {
  const reader = new BinaryReader(bytes.subarray(span.start, span.end));
  while (reader.pos < reader.len) {
    const start = span.start + reader.pos;
    const { number, kind, from } = readField(reader);
    const end = span.start + reader.pos;
    yield { number, kind, start, end, content: { start: span.start + from, end } };
  }
}

/** Moves past one field. */
function readField(reader: BinaryReader): { number: number; kind: WireField["kind"]; from: number } {
  return checked(() => {
    const [number, type] = reader.tag();
    let from = reader.pos;
    if (type === WireType.LengthDelimited) {
      const length = reader.uint32();
      from = reader.pos;
      reader.pos += length;
      if (reader.pos > reader.len) throw new RangeError("premature end");
    } else reader.skip(type, number);
    return { number, kind: KINDS[type] ?? "group", from };
  });
}

function checked<T>(read: () => T): T {
  try {
    return read();
  } catch (cause) {
    const got = cause instanceof Error ? cause.message : "other bytes";
    throw new Fault("bad-message", "protobuf fields", { expected: "a whole field", got, cause });
  }
}

const KINDS: Readonly<Partial<Record<WireType, WireField["kind"]>>> = {
  [WireType.Varint]: "varint",
  [WireType.Bit64]: "fixed64",
  [WireType.LengthDelimited]: "bytes",
  [WireType.Bit32]: "fixed32",
};

/** The values of a packed or single varint field, as numbers; for fields whose values are small. */
export function wireVarints(bytes: Uint8Array, { kind, content }: WireField): readonly number[] {
  assert(kind === "varint" || kind === "bytes", "varints stand alone or packed");
  const reader = new BinaryReader(bytes.subarray(content.start, content.end));
  return checked(() => {
    const values: number[] = [];
    while (reader.pos < reader.len) values.push(Number(reader.int64()));
    return values;
  });
}

/** A length-delimited field: tag, length, content. */
export function wireBytes(number: number, content: Uint8Array): Uint8Array {
  return concat(wireHeader(number, content.length), content);
}

/** What stands before the content of a length-delimited field: tag and length. */
export function wireHeader(number: number, length: number): Uint8Array {
  return concat(varint(number * 8 + WireType.LengthDelimited), varint(length));
}

/** Base 128, least significant group first (protobuf encoding, "Base 128 Varints"). */
function varint(value: number): Uint8Array {
  assert(Number.isSafeInteger(value) && value >= 0, `a varint of a natural number: ${value}`);
  const groups: number[] = [];
  for (let rest = value; groups.length === 0 || rest > 0; rest = Math.floor(rest / 128)) {
    groups.push((rest % 128) + (rest >= 128 ? 128 : 0));
  }
  return Uint8Array.from(groups);
}
