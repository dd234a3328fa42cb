import "@tensorflow/tfjs-backend-wasm";
import * as tf from "@tensorflow/tfjs-core";
import { seededRandom } from "@tutti/foundation/random";
import * as ort from "onnxruntime-node";
import { describe, expect, test } from "vitest";
import { type AttributeInit, type Builder, builderOn } from "../../src/builder.ts";
import { onnxruntimeEngine } from "../../src/engines/onnxruntime/engine.ts";
import { tfjsEngine } from "../../src/engines/tfjs/engine.ts";
import { type Attribute, type Engine, sizeOf, type Tensors, type TracedGraph } from "../../src/ir.ts";
import { raised, raisedForTraining } from "../../src/raise.ts";
import { read } from "../../src/read.ts";
import { int64, tensorOf } from "../../src/tensor.ts";
import { trace } from "../../src/trace.ts";
import { backendCases } from "../backend-cases.ts";
import { expectTensor } from "../compare.ts";

type One = {
  readonly op: string;
  readonly opset: number;
  readonly shape: readonly number[];
  readonly attributes?: Readonly<Record<string, AttributeInit>>;
  /** Attributes that no builder writes any more. */
  readonly old?: Readonly<Record<string, Attribute>>;
  /** Inputs after the first. */
  readonly more?: (b: Builder) => readonly string[];
  readonly outputs?: number;
};

const floats = (value: readonly number[]): Attribute => ({ kind: "floats", value });
const vector = (b: Builder, size: number, from = 0.5) =>
  b.constant(
    tensorOf(
      "float32",
      [size],
      Array.from({ length: size }, (_, i) => from + i / 4),
    ),
  );
const place = (b: Builder, from = 0.5) =>
  b.constant(
    tensorOf(
      "float32",
      [3, 2],
      Array.from({ length: 6 }, (_, i) => from + i / 4),
    ),
  );

/** Resize-11 wants a region, if an empty one, and scales beside sizes. */
const empties = (b: Builder) => [0, 0].map(() => b.constant(tensorOf("float32", [0], [])));

/** Each in the oldest form that onnxruntime still reads: it says what the node means. */
const OLD: readonly One[] = [
  { op: "Slice", opset: 7, shape: [3, 4], attributes: { starts: [1, -3], ends: [9, -1], axes: [0, 1] } },
  { op: "Slice", opset: 9, shape: [3, 4], attributes: { starts: [1], ends: [3] } },
  { op: "TopK", opset: 9, shape: [3, 4], attributes: { k: 2, axis: 0 }, outputs: 2 },
  { op: "Clip", opset: 7, shape: [3, 4], attributes: { min: { float: -0.5 }, max: { float: 1 } } },
  { op: "Clip", opset: 10, shape: [3, 4], attributes: { max: { float: 0.25 } } },
  { op: "Pad", opset: 7, shape: [2, 3], attributes: { pads: [1, 0, 2, 1], value: { float: 3 } } },
  { op: "Pad", opset: 10, shape: [2, 3], attributes: { pads: [1, 2, 0, 1], mode: "reflect" } },
  { op: "Squeeze", opset: 7, shape: [2, 1, 3, 1], attributes: { axes: [1] } },
  { op: "Squeeze", opset: 12, shape: [2, 1, 3, 1] },
  { op: "Squeeze", opset: 11, shape: [2, 1, 3, 1], attributes: { axes: [] } },
  { op: "Unsqueeze", opset: 7, shape: [2, 3], attributes: { axes: [0, 3] } },
  { op: "Split", opset: 7, shape: [2, 6], attributes: { axis: 1, split: [1, 2, 3] }, outputs: 3 },
  { op: "Split", opset: 12, shape: [6, 2], outputs: 3 },
  { op: "Split", opset: 13, shape: [6, 2], outputs: 2 },
  ...["Sum", "Mean", "Max", "Min", "Prod", "L1", "L2", "SumSquare", "LogSumExp"].flatMap((kind) => [
    { op: `Reduce${kind}`, opset: 7, shape: [2, 3, 2], attributes: { axes: [0, 2], keepdims: 0 } },
    { op: `Reduce${kind}`, opset: 13, shape: [2, 3] },
  ]),
  ...["Softmax", "LogSoftmax", "Hardmax"].flatMap((op) => [
    { op, opset: 7, shape: [2, 3, 4] },
    { op, opset: 11, shape: [2, 3, 4], attributes: { axis: -2 } },
    { op, opset: 12, shape: [2, 3], attributes: { axis: 0 } },
    { op, opset: 12, shape: [2, 3], attributes: { axis: 1 } },
  ]),
  { op: "Dropout", opset: 7, shape: [2, 3], attributes: { ratio: { float: 0.3 } } },
  {
    op: "BatchNormalization",
    opset: 8,
    shape: [2, 3, 4],
    attributes: { spatial: 1, momentum: { float: 0.9 } },
    more: (b) => [vector(b, 3), vector(b, 3, 0), vector(b, 3, -1), vector(b, 3, 1)],
  },
  {
    op: "BatchNormalization",
    opset: 7,
    shape: [2, 3, 2],
    attributes: { spatial: 0, epsilon: { float: 0.01 } },
    more: (b) => [place(b), place(b, 0), place(b, -1), place(b, 1)],
  },
  ...["nearest", "linear"].flatMap((mode) => [
    {
      op: "Upsample",
      opset: 7,
      shape: [1, 2, 2, 3],
      attributes: { mode },
      old: { scales: floats([1, 1, 2, 2]) },
    },
    {
      op: "Upsample",
      opset: 9,
      shape: [1, 1, 3, 2],
      attributes: { mode },
      more: (b: Builder) => [b.constant(tensorOf("float32", [4], [1, 1, 2, 3]))],
    },
    {
      op: "Resize",
      opset: 10,
      shape: [1, 1, 4, 3],
      attributes: { mode },
      more: (b: Builder) => [b.constant(tensorOf("float32", [4], [1, 1, 0.5, 2]))],
    },
  ]),
  {
    op: "Resize",
    opset: 11,
    shape: [1, 1, 4, 3],
    attributes: { mode: "linear" },
    more: (b) => [...empties(b), b.constant(int64([1, 1, 8, 6]))],
  },
  { op: "Gemm", opset: 7, shape: [2, 3], more: (b) => [place(b), vector(b, 2)] },
  {
    op: "GroupNormalization",
    opset: 18,
    shape: [2, 4, 3],
    attributes: { num_groups: 2 },
    more: (b) => [vector(b, 2), vector(b, 2, -1)],
  },
];

function graphOf(one: One): TracedGraph {
  const b = builderOn(undefined, one.opset);
  const x = b.input({ name: "x", dtype: "float32", shape: one.shape });
  const more = one.more?.(b) ?? [];
  const count = one.outputs ?? 1;
  // What the builder cannot write is put in afterwards, and shapes are taken from the newer form.
  if (one.old) return upsampled(b, one, x);
  const outputs = b.emitMany(one.op, [x, ...more], { outputs: count, attributes: one.attributes ?? {} });
  for (const name of outputs) b.output(name);
  return b.finish();
}

function upsampled(b: Builder, one: One, x: string): TracedGraph {
  const scales = one.old!.scales!.value as readonly number[];
  const [mode] = [one.attributes!.mode!];
  const newer = { ...one, opset: 9, old: {}, more: () => [] };
  const y = b.emit("Resize", [x, b.constant(tensorOf("float32", [4], scales))], { mode });
  b.output(y);
  const graph = b.finish();
  const nodes = graph.nodes.map((node) => ({
    ...node,
    op: newer.op,
    inputs: [x],
    attributes: new Map([...node.attributes, ...Object.entries(one.old!)]),
  }));
  return { ...graph, nodes };
}

function feedsOf(graph: TracedGraph): Tensors {
  const random = seededRandom(5);
  return new Map(
    graph.inputs.map(({ name, dtype }) => {
      const { shape } = graph.statics.get(name)!;
      const values = Array.from({ length: sizeOf(shape) }, () => 4 * random.uniform() - 2);
      return [name, tensorOf(dtype, shape, values)];
    }),
  );
}

async function run(engine: Engine, graph: TracedGraph, feeds: Tensors): Promise<Tensors> {
  const program = await engine.load(graph);
  const results = await program.step(feeds);
  await program.dispose();
  return results;
}

describe("an old node, raised, computes what onnxruntime says the old one does", () => {
  for (const one of OLD) {
    const { op, opset, attributes = {}, old = {} } = one;
    test(`${op}-${opset} ${JSON.stringify({ ...attributes, ...old })}`, async () => {
      const graph = graphOf(one);
      const feeds = feedsOf(graph);
      const wanted = await run(onnxruntimeEngine(ort), graph, feeds);
      await tf.setBackend("wasm");
      for (const target of [18, 21]) {
        const newer = raised(graph, target);
        expect(newer.opset).toBe(Math.max(target, opset));
        expect(newer.outputs).toEqual(graph.outputs);
        for (const engine of [onnxruntimeEngine(ort), tfjsEngine(tf, "wasm")]) {
          const got = await run(engine, newer, feeds);
          for (const [name, tensor] of wanted)
            expectTensor(got.get(name), tensor, { what: `${op} in ${target} on ${engine.name}` });
        }
      }
    });
  }
});

test("the standard's own cases of old operator sets, raised, give what the standard says", async () => {
  const old = backendCases().filter(({ ort: passes, opset }) => passes && opset >= 7 && opset < 18);
  let done = 0;
  for (const it of old) {
    const graph = tracedCase(it);
    if (!graph || graph.nodes.length === 0 || graph.inputs.length !== it.inputs.length) continue;
    const newer = raised(graph, 18);
    const feeds = new Map(graph.inputs.map(({ name }, at) => [name, it.inputs[at]!]));
    const results = await run(onnxruntimeEngine(ort), newer, feeds).catch((error) => {
      throw new Error(`${it.name}: ${error}`);
    });
    for (const [at, { name }] of graph.outputs.entries())
      expectTensor(results.get(name), it.outputs[at]!, { what: it.name, absolute: 1e-4, relative: 1e-3 });
    done++;
  }
  if (old.length > 0) expect(done).toBeGreaterThan(100);
}, 60_000);

/** Undefined where an input must be known before the run, or the operator is not ours. */
function tracedCase({
  model,
  inputs,
}: {
  model: Uint8Array;
  inputs: readonly { shape: readonly number[] }[];
}) {
  try {
    const { graph } = read(model);
    const shapes = graph.inputs.map(({ name }, at) => [name, inputs[at]!.shape] as const);
    return trace(graph, { shapes: Object.fromEntries(shapes) });
  } catch {
    return undefined;
  }
}

describe("what is raised", () => {
  const graph = graphOf({ op: "Squeeze", opset: 9, shape: [2, 1], attributes: { axes: [1] } });

  test("only graphs older than 16; names, metadata and weights stay", () => {
    expect(raisedForTraining(graph).opset).toBe(18);
    const newer = graphOf({ op: "Squeeze", opset: 16, shape: [2, 1] });
    expect(raisedForTraining(newer)).toBe(newer);
    expect(raised(graph, 9)).toBe(graph);
    expect(raised(graph, 18).nodes.map(({ name, outputs }) => [name, outputs])).toEqual(
      graph.nodes.map(({ name, outputs }) => [name, outputs]),
    );
  });

  test("a node of another domain is no concern of this one's", () => {
    const nodes = graph.nodes.map((node) => ({ ...node, domain: "com.microsoft" }));
    expect(raised({ ...graph, nodes }, 18).nodes).toEqual(nodes);
  });
});
