import { readFileSync } from "node:fs";
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { read } from "../../graph/src/read.ts";
import { shared } from "../../graph/test/shared.ts";
import { attachedFeeds } from "../src/attach.ts";
import {
  type OnnxAdapterFile,
  type Parameter,
  readOnnxAdapter,
  writeOnnxAdapter,
} from "../src/formats/onnx-adapter.ts";
import { fromOnnxAdapter, toAttachedOnnxAdapter, toOnnxAdapter } from "../src/formats/onnx-adapter-lora.ts";
import { bind } from "../src/formats/peft-bind.ts";
import { resolve } from "../src/resolve.ts";
import { CONV, random, TWO } from "./bases.ts";
import { type Drawn, expectSameDeltas, moduleOf, survives } from "./files.ts";

const parameter = fc
  .record({ shape: fc.array(fc.integer({ min: 0, max: 4 }), { maxLength: 4 }), seed: fc.nat() })
  .map(({ shape, seed }): Parameter => {
    const length = 4 * shape.reduce((product, size) => product * size, 1);
    return { dtype: "F32", shape, bytes: Uint8Array.from({ length }, (_, i) => (seed + i) % 256) };
  });
const names = fc.string({ unit: "grapheme", minLength: 1, maxLength: 12 });
const fileOf = (parameters: readonly (readonly [string, Parameter])[]): OnnxAdapterFile => ({
  adapterVersion: -3,
  modelVersion: 7,
  parameters: new Map(parameters),
});

describe("the container", () => {
  test("what is written is read, in order", () => {
    fc.assert(
      fc.property(fc.array(fc.tuple(names, parameter), { maxLength: 6 }), (parameters) => {
        const file = fileOf(parameters);
        const again = readOnnxAdapter(writeOnnxAdapter(file));
        expect(again).toEqual(file);
        expect([...again.parameters.keys()]).toEqual([...file.parameters.keys()]);
      }),
    );
  });

  test("raw data begins at multiples of 8, as the schema's force_align asks", () => {
    fc.assert(
      fc.property(fc.array(fc.tuple(names, parameter), { maxLength: 6 }), (parameters) => {
        for (const { bytes } of readOnnxAdapter(writeOnnxAdapter(fileOf(parameters))).parameters.values())
          expect(bytes.byteOffset % 8).toBe(0);
      }),
    );
  });

  const path = shared("conformance/formats/ort_lora_adapter.orl");
  test.skipIf(!path)("onnxruntime's own file is read; damaged, it is read or refused", () => {
    const bytes = new Uint8Array(readFileSync(path!));
    const { parameters } = readOnnxAdapter(bytes);
    const values = [...parameters].map(([name, { dtype, shape, bytes: raw }]) => {
      return { name, dtype, shape, data: [...new Float32Array(new Uint8Array(raw).buffer)] };
    });
    expect(values).toEqual([
      { name: "lora_param_a", dtype: "F32", shape: [4, 1], data: [3, 4, 5, 6] },
      { name: "lora_param_b", dtype: "F32", shape: [1, 4], data: [7, 8, 9, 10] },
    ]);
    survives(bytes, readOnnxAdapter, heldBy);
  });

  const held = fileOf([
    ["a.lora_A.weight", { dtype: "F32", shape: [2, 3], bytes: new Uint8Array(24) }],
    ["a.lora_B.weight", { dtype: "F16", shape: [3, 2], bytes: new Uint8Array(12) }],
  ]);

  test("changed anywhere, it is read or refused, and no byte is held twice", () => {
    survives(writeOnnxAdapter(held), readOnnxAdapter, heldBy);
    survives(writeOnnxAdapter(held), (bytes) => fromOnnxAdapter(bytes));
  });

  test("parameters that share their values do not multiply a small file", () => {
    const one = { dtype: "F32", shape: [1], bytes: new Uint8Array(4) } as const;
    const large = { dtype: "F32", shape: [256], bytes: new Uint8Array(1024) } as const;
    const names = Array.from({ length: 40 }, (_, i) => `p${i}`);
    const bytes = writeOnnxAdapter(fileOf([...names.map((name) => [name, one] as const), ["last", large]]));
    const view = new DataView(bytes.buffer);
    const follow = (at: number) => at + view.getUint32(at, true);
    const tables = [...names, "last"].map((_, i) => follow(44 + 4 * i));
    const shared = follow(tables.at(-1)! + 16);
    for (const table of tables.slice(0, -1)) {
      view.setBigInt64(follow(table + 8) + 4, 256n, true);
      view.setUint32(table + 16, shared - (table + 16), true);
    }
    expect(() => readOnnxAdapter(bytes)).toThrow(/bytes that no two share, got an overlap/);
  });

  /** Fixed places of our writer: the root's fields, the vector of parameters and the first one's table. */
  const changed = (at: number, value: number) => {
    const bytes = writeOnnxAdapter(held);
    new DataView(bytes.buffer).setUint32(at, value, true);
    return bytes;
  };
  test.each([
    ["another identifier", changed(4, 0), /the identifier TORT/],
    ["another format version", changed(24, 2), /format_version: expected 1, got 2/],
    ["an offset beyond the file", changed(0, 2 ** 31), /offset: expected 4 bytes within/],
    ["a vtable outside", changed(20, 2 ** 31), /offset: expected/],
    ["a field outside its table", changed(12, 0x00080050), /fields inside it, one at 80|got one at 80/],
    ["a vector longer than the file", changed(40, 2 ** 30), /offset: expected 4294967296 bytes within/],
    ["two tables for one parameter", changed(48, 4), /overlap|two of a\.lora_A/],
    ["a type that is none of floats", changed(64, 7), /a\.lora_A\.weight: data type: .* got 7/],
  ])("%s is refused by name", (_, bytes, message) => {
    expect(() => readOnnxAdapter(bytes)).toThrow(message);
  });
});

const heldBy = ({ parameters }: OnnxAdapterFile) =>
  [...parameters.values()].reduce((sum, { bytes }) => sum + bytes.length, 0);

const drawn = fc.array(
  fc.record({
    kind: fc.constantFrom<Drawn["kind"]>("linear", "embedding"),
    in: fc.integer({ min: 6, max: 9 }),
    out: fc.integer({ min: 6, max: 9 }),
    rank: fc.integer({ min: 1, max: 5 }),
    alpha: fc.integer({ min: 1, max: 9 }),
    rslora: fc.boolean(),
  }),
  { minLength: 1, maxLength: 4 },
);

describe("adapters", () => {
  test("the products come back, and what was read is written as it was", () => {
    fc.assert(
      fc.property(drawn, (modules) => {
        const peft = { modules: modules.map((m, i) => moduleOf({ ...m, name: `m.${i}` })), whole: [] };
        const bytes = toOnnxAdapter(peft);
        const again = fromOnnxAdapter(bytes);
        expectSameDeltas(again, peft);
        for (const { rank, alpha, scale } of again.modules) expect([alpha, scale]).toEqual([rank, 1]);
        expect(toOnnxAdapter(again)).toEqual(bytes);
      }),
      { numRuns: 50 },
    );
  });

  const size = { kind: "linear", in: 3, out: 2, rank: 1, alpha: 5, rslora: false } as const;
  const module = moduleOf({ ...size, name: "layers.0" });

  test("A and B lie as MatMul reads them, B times the scale", () => {
    const { parameters } = readOnnxAdapter(toOnnxAdapter({ modules: [module], whole: [] }));
    expect([...parameters].map(([name, { shape }]) => [name, shape])).toEqual([
      ["layers.0.lora_A.weight", [3, 1]],
      ["layers.0.lora_B.weight", [1, 2]],
    ]);
    const b = new Float32Array(new Uint8Array(parameters.get("layers.0.lora_B.weight")!.bytes).buffer);
    expect(b).toEqual(module.b.data.map((value) => value * 5));
  });

  test("names of onnxruntime-genai's builder are known, others refused", () => {
    const { parameters } = readOnnxAdapter(toOnnxAdapter({ modules: [module], whole: [] }));
    const renamed = (to: (name: string) => string) =>
      writeOnnxAdapter(fileOf([...parameters].map(([name, value]) => [to(name), value])));
    const genai = renamed((name) => name.replace(".weight", ".MatMul.weight"));
    expect(fromOnnxAdapter(genai).modules[0]!.name).toBe("layers.0");
    expect(() => fromOnnxAdapter(renamed((name) => `${name}.scale`))).toThrow(/lora_A\.weight\.scale/);
    const [a] = parameters;
    expect(() => fromOnnxAdapter(writeOnnxAdapter(fileOf([a!])))).toThrow(/layers\.0: expected lora_A and/);
  });

  test.each([
    [TWO, ["head"]],
    [CONV["1-D"]!, []],
  ] as const)("for an attached graph, the file holds what that graph is fed", ({ bytes }, save) => {
    const model = read(bytes);
    const adapter = resolve(model, { rank: 2, alpha: 3, targets: ["*"], save });
    const tensors = new Map(
      adapter.tensors.map(({ name, shape }) => [name, random(shape, name).data as Float32Array]),
    );
    const file = toAttachedOnnxAdapter(adapter, tensors);
    const fed = [...attachedFeeds(adapter, tensors)].map(([name, { shape, data }]) => [name, shape, data]);
    const held = [...readOnnxAdapter(file).parameters].map(([name, { shape, bytes: raw }]) => {
      return [name, shape, new Float32Array(new Uint8Array(raw).buffer)];
    });
    expect(held).toEqual(fed);
    const { adapter: bound, tensors: again } = bind(fromOnnxAdapter(file), model);
    expect(bound.saved).toEqual(adapter.saved);
    for (const { name } of adapter.tensors.filter(({ name }) => !name.includes("lora_B")))
      expect(again.get(name), name).toEqual(tensors.get(name));
    expect(toAttachedOnnxAdapter(bound, again)).toEqual(file);
  });

  test("what the layout has no place for is refused by name", () => {
    const whole = { ...module.a, name: "head.weight" };
    expect(() => toOnnxAdapter({ modules: [], whole: [whole] })).toThrow(/head\.weight/);
    const conv = { modules: [{ ...module, kind: "conv" as const }], whole: [] };
    expect(() => toOnnxAdapter(conv)).toThrow(/layers\.0.*convolution/);
  });
});
