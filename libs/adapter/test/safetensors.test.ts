import { concat, u32, utf8 } from "@tutti/foundation/bytes";
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { fromBfloat16, fromHalf } from "../../graph/src/half.ts";
import { widenBfloat16, widenFloat16 } from "../src/formats/half-bits.ts";
import {
  openSafetensors,
  readSafetensors,
  readTensors,
  writeSafetensors,
  writeTensors,
} from "../src/formats/safetensors.ts";

/** A file with any header text and data, lawful or not. */
function file(header: string, data = new Uint8Array(), length = utf8(header).length): Uint8Array {
  return concat(u32(length), u32(0), utf8(header), data);
}

const entry = (dtype: string, shape: readonly number[], offsets: readonly number[]) =>
  JSON.stringify({ dtype, shape, data_offsets: offsets });

describe("round trip", () => {
  const shapes = fc.array(fc.integer({ min: 0, max: 4 }), { maxLength: 4 });
  const tensor = shapes.chain((shape) => {
    const length = shape.reduce((product, size) => product * size, 1);
    return fc.record({
      name: fc.string({ unit: "grapheme" }).filter((name) => name !== "__metadata__"),
      shape: fc.constant(shape),
      data: fc.float32Array({ minLength: length, maxLength: length, noNaN: true }),
    });
  });

  test("what is written is read, in order, bit for bit", () => {
    fc.assert(
      fc.property(fc.uniqueArray(tensor, { selector: ({ name }) => name, maxLength: 6 }), (tensors) => {
        const read = [...openSafetensors(writeSafetensors(tensors, { format: "pt" })).tensors];
        const floats = readSafetensors(writeSafetensors(tensors, { format: "pt" }));
        expect(read.map(([name, { shape }]) => ({ name, shape: [...shape] })).sort(byName)).toEqual(
          tensors.map(({ name, shape }) => ({ name, shape })).sort(byName),
        );
        for (const { name, data } of tensors) expect(floats.get(name)?.data).toEqual(Float32Array.from(data));
      }),
    );
  });

  test("names that look like numbers keep their place in the file", () => {
    const names = ["b", "1", "0"];
    const bytes = writeSafetensors(names.map((name, i) => ({ name, shape: [1], data: Float32Array.of(i) })));
    const { tensors } = openSafetensors(bytes);
    expect(["b", "1", "0"].map((name) => tensors.get(name)!.bytes.byteOffset)).toEqual(
      [0, 4, 8].map((offset) => bytes.length - 12 + offset),
    );
  });

  test("metadata comes back and the data starts at a multiple of 8", () => {
    const bytes = writeSafetensors([{ name: "x", shape: [], data: Float32Array.of(1) }], { round: "7" });
    expect(openSafetensors(bytes).metadata).toEqual({ round: "7" });
    expect(openSafetensors(bytes).tensors.get("x")!.bytes.byteOffset % 8).toBe(0);
  });
});

describe("an adapter's file", () => {
  const specs = [
    { name: "b", shape: [2, 1] },
    { name: "1", shape: [3] },
  ];
  const data = new Map([
    ["1", Float32Array.of(3, 4, 5)],
    ["b", Float32Array.of(1, 2)],
  ]);
  const named = (header: string, bytes: number) => () =>
    readTensors(specs, file(header, new Uint8Array(bytes)));

  test("holds the plan's tensors in the plan's order, whatever the order they came in", () => {
    const bytes = writeTensors(specs, data);
    expect([...openSafetensors(bytes).tensors.get("1")!.bytes.subarray(0, 4)]).toEqual([0, 0, 64, 64]);
    expect([...readTensors(specs, bytes)]).toEqual([
      ["b", Float32Array.of(1, 2)],
      ["1", Float32Array.of(3, 4, 5)],
    ]);
    expect(readTensors([...specs].reverse(), bytes)).toEqual(data);
  });

  test("another type, shape, name or number of tensors is refused by name", () => {
    const b = `"b":${entry("F32", [2, 1], [0, 8])}`;
    expect(named(`{${b},"1":${entry("F16", [3], [8, 14])}}`, 14)).toThrow(/1: expected F32 \[3\], got F16/);
    expect(named(`{${b},"1":${entry("BF16", [3], [8, 14])}}`, 14)).toThrow(/got BF16/);
    expect(named(`{${b},"1":${entry("F32", [1, 3], [8, 20])}}`, 20)).toThrow(/got F32 \[1,3\]/);
    expect(named(`{${b},"2":${entry("F32", [3], [8, 20])}}`, 20)).toThrow(/1: expected .*got none/);
    expect(named(`{${b}}`, 8)).toThrow(/adapter: expected 2 tensors, got 1/);
  });

  test("data that is missing, of another length or of no name is a bug", () => {
    expect(() => writeTensors(specs, new Map([["b", Float32Array.of(1, 2)]]))).toThrow(/1 tensors for 2/);
    expect(() => writeTensors(specs, new Map(data).set("b", Float32Array.of(1)))).toThrow(/b has 1 values/);
    expect(() => writeTensors(specs.slice(1), data)).toThrow(/2 tensors for 1/);
    const other = new Map([...data].map(([name, values]) => [`${name}x`, values]));
    expect(() => writeTensors(specs, other)).toThrow(/no data for b/);
  });
});

const byName = (a: { name: string }, b: { name: string }) => (a.name < b.name ? -1 : 1);

describe("half-width floats", () => {
  const all = Uint16Array.from({ length: 65_536 }, (_, i) => i);

  test("all 65,536 of either kind widen as the graph's twin says", () => {
    expect(widenFloat16(all)).toEqual(Float32Array.from(all, fromHalf));
    expect(widenBfloat16(all)).toEqual(Float32Array.from(all, fromBfloat16));
  });

  test("F16 and BF16 tensors are read as float32", () => {
    const header = `{"h":${entry("F16", [1], [0, 2])},"b":${entry("BF16", [1], [2, 4])}}`;
    const read = readSafetensors(file(header, Uint8Array.of(0x00, 0x3e, 0xc0, 0x3f)));
    expect([...read].map(([name, { dtype, data }]) => [name, dtype, data[0]])).toEqual([
      ["h", "F16", 1.5],
      ["b", "BF16", 1.5],
    ]);
  });
});

describe("hostile files are refused by name", () => {
  const eight = new Uint8Array(8);
  const cases: readonly (readonly [string, Uint8Array, RegExp])[] = [
    ["shorter than the length field", new Uint8Array(7), /at least 8 bytes, got 7/],
    ["header longer than the file", file("{}", eight, 999), /header: expected at most 10 bytes, got 999/],
    ["header of 2^63 bytes", concat(u32(0), u32(2 ** 31), eight), /header: expected at most/],
    ["no JSON", file("{"), /expected JSON/],
    ["no UTF-8", concat(u32(1), u32(0), Uint8Array.of(0xff)), /expected UTF-8/],
    ["an array", file("[]"), /a JSON object/],
    ["a hole before", file(`{"x":${entry("F32", [1], [4, 8])}}`, eight), /tensor x: expected data from 0/],
    [
      "a hole between",
      file(`{"x":${entry("U8", [1], [0, 1])},"y":${entry("U8", [1], [2, 3])}}`, new Uint8Array(3)),
      /tensor y: expected data from 1, got from 2/,
    ],
    [
      "an overlap",
      file(`{"x":${entry("U8", [2], [0, 2])},"y":${entry("U8", [2], [1, 3])}}`, new Uint8Array(3)),
      /tensor y: expected data from 2, got from 1/,
    ],
    [
      "bytes after the end",
      file(`{"x":${entry("F32", [1], [0, 4])}}`, eight),
      /data: expected 4 bytes, got 8/,
    ],
    [
      "less data than promised",
      file(`{"x":${entry("F32", [4], [0, 16])}}`, eight),
      /data: expected 16 bytes/,
    ],
    ["a shape that does not fit", file(`{"x":${entry("F32", [3], [0, 8])}}`, eight), /12 bytes of F32 \[3\]/],
    ["a product beyond 2^53", file(`{"x":${entry("U8", [2 ** 40, 2 ** 40], [0, 0])}}`), /tensor x: expected/],
    ["a negative size", file(`{"x":${entry("F32", [-2, -1], [0, 8])}}`, eight), /shape: expected natural/],
    ["offsets backwards", file(`{"x":${entry("F32", [1], [8, 4])}}`, eight), /tensor x/],
    ["three offsets", file(`{"x":${entry("F32", [2], [0, 8, 8])}}`, eight), /two natural numbers/],
    [
      "an unknown dtype",
      file(`{"x":${entry("toString", [2], [0, 8])}}`, eight),
      /dtype: expected .* got toString/,
    ],
    [
      "a name twice",
      file(`{"x":${entry("F32", [1], [0, 4])},"x":${entry("F32", [1], [4, 8])}}`, eight),
      /two of x/,
    ],
    ["a name twice, once escaped", file(`{"a":${entry("U8", [0], [0, 0])},"\\u0061" :null}`), /two of a/],
    [
      "a field twice",
      file('{"x":{"dtype":"U8","dtype":"U8","shape":[0],"data_offsets":[0,0]}}'),
      /two of dtype/,
    ],
    ["metadata that is no text", file('{"__metadata__":{"a":1}}'), /__metadata__: expected strings/],
  ];
  test.each(cases)("%s", (_, bytes, message) => {
    expect(() => openSafetensors(bytes)).toThrow(message);
    expect(() => openSafetensors(bytes)).toThrow(expect.objectContaining({ name: "Fault" }));
  });

  test("integers open, but are no adapter", () => {
    const bytes = file(`{"x":${entry("I64", [1], [0, 8])}}`, eight);
    expect(openSafetensors(bytes).tensors.get("x")?.dtype).toBe("I64");
    expect(() => readSafetensors(bytes)).toThrow(/x: dtype: expected F32, F16 or BF16, got I64/);
  });

  test("random damage gives a Fault or a lawful file, nothing else", () => {
    const good = writeSafetensors([{ name: "x", shape: [2], data: Float32Array.of(1, 2) }], { a: "b" });
    const damage = fc.array(fc.tuple(fc.nat(good.length - 1), fc.integer({ min: 0, max: 255 })), {
      minLength: 1,
    });
    fc.assert(
      fc.property(damage, (edits) => {
        const bytes = good.slice();
        for (const [at, value] of edits) bytes[at] = value;
        try {
          openSafetensors(bytes);
        } catch (error) {
          expect(error).toMatchObject({ name: "Fault" });
        }
      }),
      { numRuns: 2000 },
    );
  });
});
