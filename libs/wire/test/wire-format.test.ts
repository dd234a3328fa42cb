import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { create, encode } from "../src/message.ts";
import { ModelProtoSchema, TensorProtoSchema } from "../src/onnx.ts";
import { wireBytes, wireFields, wireVarints } from "../src/wire-format.ts";

const tensor = create(TensorProtoSchema, {
  name: "w",
  dataType: 1,
  dims: [3n, 300n, 70_000n],
  floatData: [1, 2],
  rawData: Uint8Array.of(9, 8, 7),
});

describe("walking a message", () => {
  test("fields, kinds and contents, in order", () => {
    const bytes = encode(TensorProtoSchema, tensor);
    const fields = [...wireFields(bytes)];
    expect(fields.map(({ number, kind }) => `${number} ${kind}`).sort()).toEqual(
      ["1 bytes", "2 varint", "4 bytes", "8 bytes", "9 bytes"].sort(),
    );
    const of = (number: number) => fields.find((field) => field.number === number)!;
    expect(wireVarints(bytes, of(1))).toEqual([3, 300, 70_000]);
    expect(wireVarints(bytes, of(2))).toEqual([1]);
    expect(bytes.slice(of(9).content.start, of(9).content.end)).toEqual(Uint8Array.of(9, 8, 7));
  });

  test("fields tile the message; positions inside a span count from the whole", () => {
    const bytes = encode(
      ModelProtoSchema,
      create(ModelProtoSchema, { graph: { name: "g", initializer: [tensor] } }),
    );
    const [graph] = [...wireFields(bytes)].filter(({ number }) => number === 7);
    const inner = [...wireFields(bytes, graph!.content)];
    let at = graph!.content.start;
    for (const { start, end } of inner) {
      expect(start).toBe(at);
      at = end;
    }
    expect(at).toBe(graph!.content.end);
    const initializer = inner.find(({ number }) => number === 5)!;
    const { start, end } = initializer.content;
    expect(bytes.slice(start, end)).toEqual(encode(TensorProtoSchema, tensor));
    expect(wireBytes(5, bytes.slice(start, end))).toEqual(bytes.slice(initializer.start, initializer.end));
  });

  test("what is written is walked", () => {
    const content = fc.oneof(fc.uint8Array({ maxLength: 300 }), fc.constant(new Uint8Array(20_000)));
    fc.assert(
      fc.property(fc.integer({ min: 1, max: 2 ** 29 - 1 }), content, (number, payload) => {
        const bytes = wireBytes(number, payload);
        const [field, ...rest] = [...wireFields(bytes)];
        expect(rest).toEqual([]);
        expect(field).toMatchObject({ number, kind: "bytes", start: 0, end: bytes.length });
        const { start, end } = field!.content;
        expect(Buffer.compare(bytes.subarray(start, end), payload)).toBe(0);
      }),
    );
  });

  test("any bytes at all give fields or a Fault", () => {
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 40 }), (bytes) => {
        try {
          for (const field of wireFields(bytes)) {
            expect(field.end).toBeLessThanOrEqual(bytes.length);
            if (field.kind === "bytes" || field.kind === "varint") wireVarints(bytes, field);
          }
        } catch (error) {
          expect(error).toMatchObject({ name: "Fault", code: "bad-message" });
        }
      }),
      { numRuns: 3000 },
    );
  });
});
