import { concat } from "@tutti/foundation/bytes";
import { expect, test } from "vitest";
import { create, decode, encode, encodeKept } from "../src/message.ts";
import { ModelProtoSchema } from "../src/onnx.ts";
import { AdvertiseRequestSchema } from "../src/secagg.ts";

/** Field 999, length-delimited: nobody's schema has it. */
function padding(bytes: number): Uint8Array {
  return concat(
    Uint8Array.of(0xba, 0x3e, (bytes & 0x7f) | 0x80, ((bytes >> 7) & 0x7f) | 0x80, bytes >> 14),
    new Uint8Array(bytes),
  );
}

test("fields that a schema does not know are dropped, inside other messages too", () => {
  const keys = { envelopeKey: new Uint8Array(32).fill(1), maskKey: new Uint8Array(32).fill(2) };
  const honest = encode(AdvertiseRequestSchema, create(AdvertiseRequestSchema, { advertisement: keys }));
  const inner = concat(honest.subarray(2), padding(20_000));
  // Field 2, then its length as a varint of three bytes.
  const length = [(inner.length & 0x7f) | 0x80, ((inner.length >> 7) & 0x7f) | 0x80, inner.length >> 14];
  const padded = concat(Uint8Array.of(0x12, ...length), inner, padding(30_000));
  const decoded = decode(AdvertiseRequestSchema, padded, 1 << 20);
  expect(decoded.advertisement!.maskKey).toEqual(keys.maskKey);
  expect(encode(AdvertiseRequestSchema, decoded)).toEqual(honest);
});

test("a model file keeps them where asked", () => {
  const bytes = concat(
    encode(ModelProtoSchema, create(ModelProtoSchema, { producerName: "x" })),
    padding(20_000),
  );
  expect(encode(ModelProtoSchema, decode(ModelProtoSchema, bytes, 1 << 20, { unknown: "keep" }))).toEqual(
    bytes,
  );
  expect(encode(ModelProtoSchema, decode(ModelProtoSchema, bytes, 1 << 20)).length).toBeLessThan(20);
});

test("a message whose bytes are kept is not encoded again, and another one like it is", () => {
  const [sent, alike] = [1, 1].map(() => create(ModelProtoSchema, { producerName: "x" })) as [never, never];
  const bytes = encodeKept(ModelProtoSchema, sent);
  expect(encode(ModelProtoSchema, sent)).toBe(bytes);
  expect(encode(ModelProtoSchema, alike)).not.toBe(bytes);
  expect(encode(ModelProtoSchema, alike)).toEqual(bytes);
});
