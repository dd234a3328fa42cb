import { readFileSync } from "node:fs";
import { seededRandom } from "@tutti/foundation/random";
import { create, encode } from "@tutti/wire/message";
import { ModelProtoSchema } from "@tutti/wire/onnx";
import * as ort from "onnxruntime-node";
import { describe, expect, test } from "vitest";
import { differentiate } from "../../graph/src/differentiate.ts";
import { onnxruntimeEngine } from "../../graph/src/engines/onnxruntime/engine.ts";
import { toHalf } from "../../graph/src/half.ts";
import { type DType, float32, sizeOf, type Tensor, type Tensors } from "../../graph/src/ir.ts";
import { withLoss } from "../../graph/src/loss.ts";
import { type Model, read } from "../../graph/src/read.ts";
import { numbers, tensorOf } from "../../graph/src/tensor.ts";
import { trace } from "../../graph/src/trace.ts";
import { widened } from "../../graph/src/widen.ts";
import { shared } from "../../graph/test/shared.ts";
import { attach, attachedFeeds, detach, emptyFeeds } from "../src/attach.ts";
import { fromPeft, toPeft } from "../src/formats/peft.ts";
import { initialAdapter } from "../src/initial.ts";
import { inject } from "../src/inject.ts";
import { merge, mergeReport } from "../src/merge.ts";
import { resolve } from "../src/resolve.ts";
import type { ResolvedAdapter } from "../src/spec.ts";
import { type Base, base, halves, node, random } from "./bases.ts";
import { apart, engine, goldenOf, runFile } from "./golden.ts";

const dice = seededRandom("levels");

function levels(dtype: DType, shape: readonly number[]): Tensor {
  const middle = dtype === "uint8" ? 128 : 0;
  const draw = () => middle + Math.round(100 * (2 * dice.uniform() - 1));
  return tensorOf(dtype, shape, Array.from({ length: sizeOf(shape) }, draw));
}

const f32 = (...values: number[]) => tensorOf("float32", values.length === 1 ? [] : [values.length], values);
const i8 = (...values: number[]) => tensorOf("int8", values.length === 1 ? [] : [values.length], values);
const x = { x: random([3, 5], "x") };
const channels = [0.011, 0.02, 0.007, 0.013];
const dynamic = { ...node("DynamicQuantizeLinear", ["x"], "xq"), outputs: ["xq", "xs", "xz"] };
const toFloat = node("Cast", ["i"], "f", { to: 1 });

/** How floats come of levels, written out: (level − zero)·scale, by row and column as stored. */
type Slow = (level: number, row: number, column: number) => number;
type Case = { readonly given: Base; readonly slow: Slow; readonly exact: boolean };

const QUANTISED: Readonly<Record<string, Case>> = {
  "dequantised, one scale": {
    given: base(
      [node("DequantizeLinear", ["w", "ws", "wz"], "wd"), node("MatMul", ["x", "wd"], "y", {}, "/fc/MatMul")],
      { w: levels("int8", [5, 4]), ws: f32(0.02), wz: i8(3) },
      x,
    ),
    slow: (level) => (level - 3) * Math.fround(0.02),
    exact: true,
  },
  "dequantised by axis, then turned": {
    given: base(
      [
        node("DequantizeLinear", ["w", "ws", "wz"], "wd", { axis: 0 }),
        node("Transpose", ["wd"], "wt", { perm: [1, 0] }),
        node("MatMul", ["x", "wt"], "y", {}, "/fc/MatMul"),
      ],
      { w: levels("int8", [4, 5]), ws: f32(...channels), wz: i8(0, 1, 2, 3) },
      x,
    ),
    slow: (level, row) => (level - row) * Math.fround(channels[row]!),
    exact: true,
  },
  "turned, then dequantised by axis, Gemm": {
    given: base(
      [
        node("Transpose", ["w"], "wt", { perm: [1, 0] }),
        node("DequantizeLinear", ["wt", "ws"], "wd", { axis: 1 }),
        node("Gemm", ["x", "wd"], "y", {}, "/fc/Gemm"),
      ],
      { w: levels("int8", [4, 5]), ws: f32(...channels) },
      x,
    ),
    slow: (level, row) => level * Math.fround(channels[row]!),
    exact: true,
  },
  "dynamic int8, a scale per channel": {
    given: base(
      [
        dynamic,
        node("MatMulInteger", ["xq", "w", "xz", "wz"], "i", {}, "/fc/MatMul"),
        toFloat,
        node("Mul", ["xs", "ws"], "s"),
        node("Mul", ["f", "s"], "y"),
      ],
      { w: levels("int8", [5, 4]), ws: f32(...channels), wz: i8(4, 3, 2, 1) },
      x,
    ),
    slow: (level, _, column) => (level - 4 + column) * Math.fround(channels[column]!),
    exact: false,
  },
  "dynamic uint8, scaled one by one, read on by two": {
    given: base(
      [
        dynamic,
        node("MatMulInteger", ["xq", "w", "xz", "wz"], "i", {}, "/fc/MatMul"),
        toFloat,
        node("Mul", ["ws", "f"], "half"),
        node("Mul", ["half", "xs"], "h"),
        node("Tanh", ["h"], "t"),
        node("Add", ["t", "h"], "y"),
      ],
      { w: levels("uint8", [5, 4]), ws: f32(0.02), wz: tensorOf("uint8", [], [128]) },
      x,
    ),
    slow: (level) => (level - 128) * Math.fround(0.02),
    exact: false,
  },
  "DynamicQuantizeMatMul with a bias": {
    given: base(
      [
        {
          ...node("DynamicQuantizeMatMul", ["x", "w", "ws", "", "b"], "y", {}, "/fc/MatMul"),
          domain: "com.microsoft",
        },
      ],
      { w: levels("int8", [5, 4]), ws: f32(...channels), b: [4] },
      x,
    ),
    slow: (level, _, column) => level * Math.fround(channels[column]!),
    exact: false,
  },
  "a table of levels, rows dequantised": {
    given: base(
      [node("Gather", ["w", "ids"], "q", {}, "/fc/Gather"), node("DequantizeLinear", ["q", "ws", "wz"], "y")],
      { w: levels("int8", [7, 4]), ws: f32(0.02), wz: i8(3) },
      { ids: tensorOf("int64", [2, 3], [0, 6, 3, 3, 1, 5]) },
    ),
    slow: (level) => (level - 3) * Math.fround(0.02),
    exact: true,
  },
};

const whole = (model: Model) => resolve(model, { rank: 1, alpha: 1, targets: [], save: ["fc.weight"] });

function drawn({ tensors }: ResolvedAdapter): Map<string, Float32Array> {
  const draw = seededRandom("whole");
  return new Map(
    tensors.map(({ name, shape }) => [name, Float32Array.from({ length: sizeOf(shape) }, draw.normal)]),
  );
}

const run = async (bytes: Uint8Array, feeds: Tensors) => (await runFile(bytes, feeds)).get("y")!;

async function injected(model: Model, adapter: ResolvedAdapter, feeds: Tensors, tensors: Tensors) {
  const program = await engine.load(inject(trace(model.graph), adapter));
  const results = await program.step(new Map([...feeds, ...tensors]));
  await program.dispose();
  return results.get("y")!.data as Float32Array;
}

const asTensors = (adapter: ResolvedAdapter, values: ReadonlyMap<string, Float32Array>): Tensors =>
  new Map(adapter.tensors.map(({ name, shape }) => [name, float32(shape, values.get(name)!)]));

describe.each(Object.entries(QUANTISED))("%s", (_, { given, slow, exact }) => {
  const model = read(given.bytes);
  const adapter = whole(model);
  const file = attach(given.bytes, adapter);
  const w = model.graph.initializers.get("w")!;
  const expected = numbers(w).map((level, at) => {
    return Math.fround(slow(level, Math.floor(at / w.shape[1]!), at % w.shape[1]!));
  });

  test("training starts from the dequantised weight, and so does the empty attachment", () => {
    expect(adapter.tensors).toEqual([{ name: "fc.weight", shape: w.shape }]);
    const start = initialAdapter(adapter, seededRandom(1), model).get("fc.weight")!;
    expect([...start]).toEqual(expected);
    expect([...(emptyFeeds(adapter, model).get("fc.weight.saved")!.data as Float32Array)]).toEqual(expected);
  });

  test("untrained it is the base: bit for bit where that works in floats, else within x's grid", async () => {
    const before = await run(given.bytes, given.feeds);
    const empty = await run(file, new Map([...given.feeds, ...emptyFeeds(adapter, model)]));
    if (exact) expect([...empty]).toEqual([...before]);
    else {
      // Half a step of x (its range / 255) per term of the sum, and nothing for the weight.
      const values = given.feeds.get("x")!.data as Float32Array;
      const step = (Math.max(0, ...values) - Math.min(0, ...values)) / 255;
      const largest = Math.max(...expected.map(Math.abs));
      // tanh is no steeper than 1, so that h + tanh(h) at most doubles an error.
      expect(apart(empty, before)).toBeLessThan(2 * 5 * largest * step * 0.51);
      expect(apart(empty, before)).toBeGreaterThan(0);
    }
    expect(Buffer.compare(detach(file), given.bytes)).toBe(0);
  });

  test("what is attached answers as the injected graph, which is not the base", async () => {
    const tensors = drawn(adapter);
    const attached = await run(file, new Map([...given.feeds, ...attachedFeeds(adapter, tensors)]));
    const trained = await injected(model, adapter, given.feeds, asTensors(adapter, tensors));
    expect(apart(attached, trained)).toBeLessThan(1e-5);
    expect(apart(attached, await run(given.bytes, given.feeds))).toBeGreaterThan(0.1);
  });

  test("its gradient is the one of central differences", async () => {
    const injectedGraph = inject(trace(model.graph), adapter);
    const { shape } = injectedGraph.statics.get("y")!;
    const loss = withLoss(injectedGraph, { kind: "mean-squared-error", output: "y" });
    const graph = differentiate(loss, { loss: "loss", wrt: ["fc.weight"] });
    const label = float32(shape, new Float32Array(sizeOf(shape)));
    const rows = float32([shape[0]!], new Float32Array(shape[0]!).fill(1));
    const at = (values: Float32Array): Tensors => {
      const fed = asTensors(adapter, new Map([["fc.weight", values]]));
      return new Map<string, Tensor>([...given.feeds, ...fed, ["label", label], ["row_weight", rows]]);
    };
    const start = Float32Array.from(expected);
    const program = await engine.load(graph);
    const gradient = (await program.step(at(start))).get("grad.fc.weight")!.data as Float32Array;
    const lossAt = async (element: number, by: number) => {
      const moved = start.slice();
      moved[element]! += by;
      return ((await program.step(at(moved))).get("loss")!.data as Float32Array)[0]!;
    };
    const step = 2 ** -5;
    for (const element of [0, 6, 19]) {
      const slope = ((await lossAt(element, step)) - (await lossAt(element, -step))) / (2 * step);
      expect(Math.abs(gradient[element]! - slope)).toBeLessThan(1e-2 * Math.max(1, Math.abs(slope)));
    }
    expect(Math.max(...gradient.map(Math.abs))).toBeGreaterThan(0.1);
    await program.dispose();
  });

  test("merging refuses it by name, and says to attach", () => {
    const message = /merge: fc\.weight, weight w: .*data type [23], .*Attach the adapter beside the base/;
    expect(() => merge(given.bytes, adapter, drawn(adapter))).toThrow(message);
    expect(() => mergeReport(given.bytes, adapter, drawn(adapter))).toThrow(message);
  });

  test("a scale is trained with its weight and not beside it", () => {
    const { saved } = resolve(model, { rank: 1, alpha: 1, targets: [], save: ["*"] });
    expect(saved.map(({ name }) => name).filter((name) => name !== "b")).toEqual(["fc.weight"]);
  });
});

describe("half precision", () => {
  const given = base(
    [
      node("Cast", ["x"], "h", { to: 10 }),
      node("Gemm", ["h", "fc.weight", "fc.bias"], "g", { transB: 1 }, "/fc/Gemm"),
      node("Cast", ["g"], "y", { to: 1 }),
    ],
    { "fc.weight": halves([4, 5]), "fc.bias": halves([4]) },
    x,
  );
  const model = read(given.bytes);
  const adapter = resolve(model, { rank: 1, alpha: 1, targets: [], save: ["fc"] });
  const tensors = drawn(adapter);

  test("untrained, the attached file is the base, bit for bit", async () => {
    const empty = await run(
      attach(given.bytes, adapter),
      new Map([...given.feeds, ...emptyFeeds(adapter, model)]),
    );
    expect([...empty]).toEqual([...(await run(given.bytes, given.feeds))]);
    const start = initialAdapter(adapter, seededRandom(1), model);
    expect([...start.get("fc.weight")!]).toEqual(numbers(model.graph.initializers.get("fc.weight")!));
  });

  test("merged it is what was trained, rounded once to halves, and the report says so", async () => {
    const merged = merge(given.bytes, adapter, tensors);
    const stored = read(merged).graph.initializers.get("fc.weight")!;
    expect(stored).toMatchObject({ dtype: "float16", shape: [4, 5] });
    expect([...(stored.data as Uint16Array)]).toEqual([...tensors.get("fc.weight")!].map(toHalf));
    const [report] = mergeReport(given.bytes, adapter, tensors);
    expect(report).toMatchObject({ what: "fc.weight", dtype: "float16" });
    expect(report!.largestRounding).toBeGreaterThan(0);
    expect(report!.largestRounding).toBeLessThan(2 ** -10);
    const attached = await run(
      attach(given.bytes, adapter),
      new Map([...given.feeds, ...attachedFeeds(adapter, tensors)]),
    );
    expect(apart(attached, await run(merged, given.feeds))).toBeLessThan(0.02);
  });

  test("the graph that trains is in float32, and near", async () => {
    const wide = { ...model, graph: widened(model.graph) };
    const trained = await injected(wide, adapter, given.feeds, asTensors(adapter, tensors));
    const merged = await run(merge(given.bytes, adapter, tensors), given.feeds);
    expect(apart(trained, merged)).toBeLessThan(0.02);
    const graph = trace(wide.graph);
    expect([...inject(graph, adapter).statics.values()].some(({ dtype }) => dtype === "float16")).toBe(false);
  });
});

test("bfloat16, cast on the way: trained in float32, merged rounded to bfloat16", async () => {
  const plainBase = base(
    [node("Cast", ["fc.weight"], "w", { to: 1 }), node("MatMul", ["x", "w"], "y", {}, "/fc/MatMul")],
    { "fc.weight": [5, 4] },
    x,
  );
  const { proto } = read(plainBase.bytes);
  const [stored] = proto.graph!.initializer;
  const upper = (values: Float32Array) => new Uint16Array(values.buffer).filter((_, at) => at % 2 === 1);
  const before = upper(random([5, 4], "bf16").data as Float32Array);
  Object.assign(stored!, { dataType: 16, rawData: new Uint8Array(before.buffer), floatData: [] });
  const bytes = encode(ModelProtoSchema, create(ModelProtoSchema, proto));
  const model = read(bytes);
  const adapter = whole(model);
  const start = initialAdapter(adapter, seededRandom(1), model).get("fc.weight")!;
  expect([...upper(start)]).toEqual([...before]);
  const tensors = drawn(adapter);
  const merged = read(merge(bytes, adapter, tensors)).graph.initializers.get("fc.weight")!
    .data as Float32Array;
  const [report] = mergeReport(bytes, adapter, tensors);
  expect(report).toMatchObject({ what: "fc.weight", dtype: "bfloat16" });
  expect(report!.largestRounding).toBeGreaterThan(0);
  expect(apart(merged, tensors.get("fc.weight")!)).toBe(report!.largestRounding);
  expect(report!.largestRounding).toBeLessThan(4 * 2 ** -8);
});

test("levels inside an operator are refused by name, and not trained by the bias alone", () => {
  const { bytes } = base(
    [
      {
        ...node("MatMulNBits", ["x", "w", "ws"], "h", { K: 32, N: 4, bits: 4, block_size: 16 }, "/fc/MatMul"),
        domain: "com.microsoft",
      },
      node("Add", ["h", "fc.bias"], "y"),
    ],
    { w: levels("uint8", [4, 2, 8]), ws: random([8], "ws"), "fc.bias": [4] },
    { x: random([2, 32], "x") },
  );
  const model = read(bytes);
  const message = /fc\.weight, trained whole: .*got levels inside an operator \(w\).*Give it factors/;
  expect(() => resolve(model, { rank: 1, alpha: 1, targets: [], save: ["fc"] })).toThrow(message);
  expect(() => whole(model)).toThrow(message);
  const bias = resolve(model, { rank: 1, alpha: 1, targets: ["fc"], save: ["fc.bias"] });
  expect(bias.saved.map(({ name }) => name)).toEqual(["fc.bias"]);
});

/** PEFT's BERT adapter, with its classifier trained whole, on its base quantised by onnxruntime's tools. */
const golden = goldenOf("bert");
const folder = shared("conformance/quantised");

/** Without fusions, which move a value from one level of a quantised activation to the next. */
const plain = onnxruntimeEngine(ort as never, {
  session: { intraOpNumThreads: 1, graphOptimizationLevel: "disabled" },
});

/** Tolerances: from the injected graph, from PEFT on the base in float32, and untrained from the base. */
describe.skipIf(!golden || !folder).each([
  ["fp16", { injected: 1e-3, peft: 2e-3, untrained: 0 }],
  ["dyn-int8", { injected: 1e-6, peft: 0.03, untrained: 5e-3 }],
  ["qdq-int8", { injected: 1e-6, peft: 0.1, untrained: 0 }],
] as const)("PEFT's adapter with a classifier trained whole, on BERT in %s", (kind, tolerances) => {
  test("binds, is written again as it was, and answers attached as when injected", async () => {
    const { config, weights, inputs, golden: expected } = golden!;
    const bytes = new Uint8Array(readFileSync(`${folder}/bert.${kind}.onnx`));
    const model = read(bytes);
    const { adapter, tensors } = fromPeft(config, weights, model);
    expect(adapter.saved.map(({ name }) => name)).toEqual(["m.classifier.weight", "m.classifier.bias"]);
    const again = toPeft(adapter, tensors, { wrapper: { from: "m.", to: "" } });
    expect(fromPeft(again.config, again.weights, model).tensors).toEqual(tensors);

    const file = attach(bytes, adapter);
    const answer = async (model: Uint8Array, feeds?: Tensors) =>
      (await runFile(model, new Map([...inputs, ...(feeds ?? [])]))).get("output")!;
    const attached = await answer(file, attachedFeeds(adapter, tensors));
    const shapes = Object.fromEntries([...inputs].map(([name, { shape }]) => [name, shape]));
    const program = await plain.load(inject(trace(widened(model.graph), { shapes }), adapter));
    const results = await program.step(new Map([...inputs, ...asTensors(adapter, tensors)]));
    await program.dispose();
    const trained = results.get("output")!.data as Float32Array;
    expect(apart(attached, trained)).toBeLessThan(tolerances.injected);
    const float = expected.get("output.adapter")!.data as Float32Array;
    expect(apart(attached, float)).toBeLessThan(tolerances.peft);
    const before = await answer(bytes);
    expect(apart(await answer(file, emptyFeeds(adapter, model)), before)).toBeLessThanOrEqual(
      tolerances.untrained,
    );
    expect(apart(attached, before)).toBeGreaterThan(0.1);
  });
});
