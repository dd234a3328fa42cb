import { concat, u32, utf8 } from "@tutti/foundation/bytes";
import { seededRandom } from "@tutti/foundation/random";
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { sizeOf } from "../../graph/src/ir.ts";
import { mlp } from "../../graph/src/make/mlp.ts";
import { read } from "../../graph/src/read.ts";
import { write } from "../../graph/src/write.ts";
import { fromPeft, toPeft } from "../src/formats/peft.ts";
import { readBare, readPeft, writePeft } from "../src/formats/peft-adapter.ts";
import { bind } from "../src/formats/peft-bind.ts";
import { readSafetensors, writeSafetensors } from "../src/formats/safetensors.ts";
import { resolve } from "../src/resolve.ts";
import type { AdapterSpec, ResolvedAdapter } from "../src/spec.ts";
import { CONV, TABLE, TWO } from "./bases.ts";
import { moduleOf, survives } from "./files.ts";
import { goldenOf } from "./golden.ts";

const model = read(write(mlp({ inputs: 6, hidden: [8, 4], outputs: 2, random: seededRandom(1) })));

function drawn({ tensors }: ResolvedAdapter): Map<string, Float32Array> {
  const dice = seededRandom("peft");
  return new Map(
    tensors.map(({ name, shape }) => [name, Float32Array.from({ length: sizeOf(shape) }, dice.normal)]),
  );
}

test("what is no config, no weights or no model is said at the door", () => {
  const none = new Uint8Array();
  const call = fromPeft as (...given: unknown[]) => unknown;
  expect(() => call({ r: 2 }, none)).toThrow(
    /adapter_config\.json: expected the text of the file, got object/,
  );
  expect(() => call("{}", "weights")).toThrow(/adapter weights: expected the file's bytes, got string/);
  const bare = { modules: [], whole: [] };
  expect(() => bind(bare, undefined as never)).toThrow(/base model: expected a model, read, got undefined/);
});

describe("there and back", () => {
  const spec = fc.record({
    rank: fc.integer({ min: 1, max: 8 }),
    alpha: fc.integer({ min: 1, max: 32 }),
    rslora: fc.boolean(),
    targets: fc.constantFrom<AdapterSpec["targets"]>("all-linear", ["0"], ["0", "2"]),
    save: fc.constantFrom([], ["layers.2"], ["1.bias"], ["layers.1", "2.bias"]),
    rankPattern: fc.constantFrom({}, { "layers.0": 3 }, { "*": 5 }),
    alphaPattern: fc.constantFrom({}, { "layers.2": 7.5 }),
  });

  test("any adapter of a model comes back equal", () => {
    fc.assert(
      fc.property(spec, (drawnSpec) => {
        const adapter = resolve(model, drawnSpec);
        const tensors = drawn(adapter);
        const { config, weights } = toPeft(adapter, tensors);
        expect(fromPeft(config, weights, model)).toEqual({ adapter, tensors });
      }),
    );
  });

  test.each(Object.entries({ ...CONV, ...TABLE, TWO }))("%s comes back equal", (_, { bytes }) => {
    const base = read(bytes);
    const adapter = resolve(base, {
      rank: 2,
      alpha: 3,
      targets: ["*"],
      save: bytes === TWO.bytes ? ["head"] : [],
    });
    const tensors = drawn(adapter);
    const { config, weights } = toPeft(adapter, tensors);
    expect(fromPeft(config, weights, base)).toEqual({ adapter, tensors });
  });

  test("a saved linear weight travels as torch's [out, in]", () => {
    const base = read(TWO.bytes);
    const adapter = resolve(base, { rank: 2, alpha: 3, targets: ["0"], save: ["head.weight"] });
    const tensors = new Map([
      ...drawn(adapter),
      ["m.head.weight", Float32Array.from({ length: 16 }, (_, i) => i)],
    ]);
    const file = readSafetensors(toPeft(adapter, tensors).weights);
    const saved = file.get("base_model.model.m.head.weight")!.data;
    expect([saved[0], saved[1], saved[4]]).toEqual([0, 4, 1]);
  });

  test("a wrapper's prefix is put on and taken off", () => {
    const base = read(TWO.bytes);
    const adapter = resolve(base, { rank: 2, alpha: 3, targets: ["0"], save: ["head"] });
    const tensors = drawn(adapter);
    const { config, weights } = toPeft(adapter, tensors, { wrapper: { from: "m.", to: "" } });
    expect([...readSafetensors(weights).keys()]).toContain("base_model.model.0.lora_A.weight");
    expect(JSON.parse(config)).toMatchObject({
      target_modules: ["0"],
      modules_to_save: ["head"],
      r: 2,
      lora_alpha: 3,
    });
    expect(fromPeft(config, weights, base)).toEqual({ adapter, tensors });
    expect(() => toPeft(adapter, tensors, { wrapper: { from: "n.", to: "" } })).toThrow(/the prefix n\./);
  });
});

test.skipIf(!goldenOf("mlp")).each(["mlp", "bert", "cnn"])(
  "PEFT's own %s file is written back as it was",
  (name) => {
    const { config, weights, base } = goldenOf(name)!;
    for (const exporter of ["dynamo", "legacy"] as const) {
      const { adapter, tensors } = fromPeft(config, weights, base(exporter).model);
      const again = toPeft(adapter, tensors, { wrapper: { from: "m.", to: "" } });
      const before = readSafetensors(weights);
      const after = readSafetensors(again.weights);
      expect([...after.keys()].sort()).toEqual([...before.keys()].sort());
      for (const [key, tensor] of before) expect(after.get(key), key).toEqual(tensor);
    }
  },
);

describe("without a base", () => {
  const module = fc.record({
    kind: fc.constantFrom<"linear" | "embedding">("linear", "embedding"),
    in: fc.integer({ min: 1, max: 6 }),
    out: fc.integer({ min: 1, max: 6 }),
    rank: fc.integer({ min: 1, max: 4 }),
    alpha: fc.integer({ min: 1, max: 32 }),
  });
  const modules = fc.array(module, { maxLength: 5 });

  test("what is written is read", () => {
    fc.assert(
      fc.property(modules, fc.boolean(), (drawnModules, rslora) => {
        const peft = {
          modules: drawnModules.map((m, i) => moduleOf({ ...m, rslora, name: `m.${i}.fc` })),
          whole: [],
        };
        const { config, weights } = writePeft(peft);
        expect(readPeft(config, weights)).toEqual(peft);
      }),
    );
  });

  test("a scale of neither rule is kept by an alpha of its own", () => {
    const size = { kind: "linear", in: 3, out: 2, rank: 4, alpha: 8 } as const;
    const odd = { ...moduleOf({ ...size, rslora: false, name: "a" }), scale: 0.75 };
    const even = moduleOf({ ...size, rslora: true, name: "b" });
    const { config, weights } = writePeft({ modules: [odd, even], whole: [] });
    const scales = readPeft(config, weights).modules.map(({ scale }) => scale);
    expect(scales).toEqual([0.75, 4]);
  });

  test("F16 and BF16 files are read", () => {
    const header = {
      "base_model.model.a.lora_A.weight": { dtype: "F16", shape: [1, 2], data_offsets: [0, 4] },
      "base_model.model.a.lora_B.weight": { dtype: "BF16", shape: [1, 1], data_offsets: [4, 6] },
    };
    const text = utf8(JSON.stringify(header));
    const data = Uint8Array.of(0x00, 0x3e, 0x00, 0xbc, 0xc0, 0x3f);
    const { modules } = readPeft(
      JSON.stringify({ peft_type: "LORA", r: 1, lora_alpha: 2 }),
      concat(u32(text.length), u32(0), text, data),
    );
    const [{ a, b }] = modules as [(typeof modules)[0]];
    expect([...a.data, ...b.data]).toEqual([1.5, -1, 1.5]);
  });

  test("tensors without a config: ranks are theirs, alpha the caller's", () => {
    const size = { kind: "linear", in: 3, out: 2, rank: 2, alpha: 5 } as const;
    const peft = { modules: [moduleOf({ ...size, rslora: false, name: "a" })], whole: [] };
    expect(readBare(writePeft(peft).weights, 5)).toEqual(peft);
  });

  test("changed anywhere, a file is read or refused", () => {
    const size = { kind: "linear", in: 3, out: 2, rank: 2, alpha: 5 } as const;
    const { config, weights } = writePeft({
      modules: [moduleOf({ ...size, rslora: false, name: "a" })],
      whole: [],
    });
    survives(weights, (bytes) => readPeft(config, bytes));
    survives(weights.slice(8, 300), (bytes) => readPeft(config, concat(u32(bytes.length), u32(0), bytes)));
    survives(utf8(config), (bytes) => readPeft(new TextDecoder().decode(bytes), weights));
  });
});

describe("refusals", () => {
  const adapter = resolve(model, { rank: 2, alpha: 4, targets: ["layers.0"] });
  const { config, weights } = toPeft(adapter, drawn(adapter));
  const changed = (changes: Record<string, unknown>) => JSON.stringify({ ...JSON.parse(config), ...changes });

  test.each([
    [{ use_dora: true }, /plain LoRA, got use_dora = true/],
    [{ use_qalora: true, lora_bias: true }, /use_qalora = true, lora_bias = true/],
    [{ bias: "all" }, /bias = "all"/],
    [{ init_lora_weights: "pissa" }, /init_lora_weights = "pissa"/],
    [{ layer_replication: [[0, 1]] }, /layer_replication/],
    [{ invented_next_year: { a: 1 } }, /invented_next_year/],
    [{ peft_type: "IA3" }, /peft_type: expected LORA, got "IA3"/],
    [{ r: "2" }, /r: expected a number above 0, got "2"/],
    [{ r: 3 }, /layers\.0: rank: expected 3, got 2/],
    [{ rank_pattern: { "0": 3 } }, /layers\.0: rank: expected 3, got 2/],
    [{ rank_pattern: { "(a+)+": 3 } }, /rank_pattern: got the pattern \(a\+\)\+/],
    [{ alpha_pattern: [] }, /alpha_pattern: expected an object/],
  ])("a config with %j is refused by name", (changes, message) => {
    expect(() => fromPeft(changed(changes), weights, model)).toThrow(message);
  });

  test("keys that are off, or say nothing of the tensors, are ignored", () => {
    const quiet = {
      use_dora: false,
      loftq_config: {},
      lora_dropout: 0.1,
      corda_config: null,
      target_modules: "x",
      init_lora_weights: "eva",
      eva_config: { rho: 2 },
    };
    expect(fromPeft(changed(quiet), weights, model).adapter).toEqual(adapter);
  });

  test("a pickled file is refused unread", () => {
    const zip = Uint8Array.from([0x50, 0x4b, 3, 4, 0, 0, 8, 8, 0, 0]);
    expect(() => fromPeft(config, zip, model)).toThrow(/expected safetensors, got a pickled \.bin/);
    expect(() => fromPeft(config, Uint8Array.of(0x80, 2, 0x8a, 10), model)).toThrow(/pickled/);
  });

  const file = (tensors: Record<string, readonly number[]>) =>
    writeSafetensors(
      Object.entries(tensors).map(([name, shape]) => ({
        name,
        shape,
        data: new Float32Array(sizeOf(shape)),
      })),
    );

  test.each([
    [
      { "base_model.model.gone.lora_A.weight": [2, 6], "base_model.model.gone.lora_B.weight": [8, 2] },
      /gone under/,
    ],
    [{ "layers.0.lora_A.weight": [2, 6] }, /layers\.0: expected lora_A and lora_B, got one/],
    [
      {
        "layers.0.lora_A.weight": [2, 6],
        "layers.0.lora_B.weight": [8, 2],
        "head.bias": [2],
        "layers.1.bias": [4],
      },
      /^adapter: head\.bias: expected tensors of the base that can be exchanged whole/,
    ],
    [{ "layers.0.lora_A.weight": [2, 5], "layers.0.lora_B.weight": [8, 2] }, /expected \[2,6\], got \[2,5\]/],
    [
      { "layers.0.lora_A.weight": [2, 6], "layers.0.lora_B.weight": [2, 8] },
      /B \[out, 2, 1…\], got \[2,6\] and \[2,8\]/,
    ],
    [{ "layers.0.lora_magnitude_vector": [8] }, /lora_magnitude_vector: expected lora_A/],
    [{ "layers.0.base_layer.weight": [8, 6] }, /base_layer\.weight/],
    [{ "layers.0.weight": [6, 8] }, /layers\.0\.weight: expected \[8,6\], got \[6,8\]/],
  ])("tensors %j are refused by name", (tensors, message) => {
    expect(() => fromPeft(config, file(tensors as never), model)).toThrow(message);
  });
});
