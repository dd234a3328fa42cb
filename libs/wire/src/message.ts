import {
  create as createMessage,
  type DescMessage,
  fromBinary,
  type MessageInitShape,
  type MessageShape,
  toBinary,
} from "@bufbuild/protobuf";
import { Fault } from "@tutti/foundation/fault";

export type { DescMessage, MessageInitShape, MessageShape };

/** A message from plain fields. */
export function create<D extends DescMessage>(schema: D, init?: MessageInitShape<D>): MessageShape<D> {
  return createMessage(schema, init);
}

/** Protobuf bytes of a message; the same message gives the same bytes. */
export function encode<D extends DescMessage>(schema: D, message: MessageShape<D>): Uint8Array {
  return kept.get(message) ?? toBinary(schema, message);
}

/** Held no longer than their messages. */
const kept = new WeakMap<object, Uint8Array>();

/**
 * As `encode`, and it keeps the bytes for when this very message is encoded again: one that many are sent
 * and nobody changes.
 */
export function encodeKept<D extends DescMessage>(schema: D, message: MessageShape<D>): Uint8Array {
  const bytes = encode(schema, message);
  kept.set(message, bytes);
  return bytes;
}

/**
 * A message from at most `limit` bytes; a Fault for more bytes, or for bytes that do not decode. Fields that
 * the schema does not know are dropped: kept, they would travel on in whatever holds this message. `unknown:
 * "keep"` is for a file that is written back.
 */
export function decode<D extends DescMessage>(
  schema: D,
  bytes: Uint8Array,
  limit: number,
  { unknown = "drop" }: { unknown?: "drop" | "keep" } = {},
): MessageShape<D> {
  const what = schema.typeName;
  if (bytes.length > limit) {
    throw new Fault("bad-message", what, { expected: `at most ${limit} bytes`, got: `${bytes.length}` });
  }
  try {
    return fromBinary(schema, bytes, { readUnknownFields: unknown === "keep" });
  } catch (cause) {
    const got = cause instanceof Error ? cause.message : "other bytes";
    throw new Fault("bad-message", what, { expected: "protobuf bytes", got, cause });
  }
}
