import "@tensorflow/tfjs-backend-wasm";
import { readFileSync } from "node:fs";
import * as tf from "@tensorflow/tfjs-core";
import { seededRandom } from "@tutti/foundation/random";
import { create, encode } from "@tutti/wire/message";
import { ModelProtoSchema, AttributeProto_AttributeType as Type } from "@tutti/wire/onnx";
import * as ort from "onnxruntime-node";
import { describe, expect, test } from "vitest";
import { builderOn } from "../src/builder.ts";
import { differentiate } from "../src/differentiate.ts";
import { onnxruntimeEngine } from "../src/engines/onnxruntime/engine.ts";
import { tfjsEngine } from "../src/engines/tfjs/engine.ts";
import { type Engine, sizeOf, type Tensor, type Tensors, type TracedGraph } from "../src/ir.ts";
import { read } from "../src/read.ts";
import { int64, numbers, tensorOf } from "../src/tensor.ts";
import { trace } from "../src/trace.ts";
import { widened } from "../src/widen.ts";
import { expectTensor } from "./compare.ts";
import { shared } from "./shared.ts";

/*
 * One small BERT as five files: in float32 (its weights outside the file), in half, with 4-bit weights, with
 * int8 weights and dynamically quantised activations, and with int8 weights and quantisers around everything.
 */
const BATCH = 6;
const KINDS = ["extdata", "fp16", "nbits4", "dyn-int8", "qdq-int8"] as const;
type Kind = (typeof KINDS)[number];

const TFJS = tfjsEngine(tf, "wasm");
/** The optimiser off: it may compute a quantised product in coarser steps than the file says. */
const ORT = onnxruntimeEngine(ort, { session: { graphOptimizationLevel: "disabled" } });

function model(kind: Kind): TracedGraph | undefined {
  const file = shared(`conformance/quantised/bert.${kind}.onnx`);
  if (!file) return undefined;
  const folder = file.slice(0, file.lastIndexOf("/") + 1);
  const { graph } = read(readFileSync(file), { externalData: (name) => readFileSync(folder + name) });
  return trace(widened(graph), { symbols: { batch: BATCH } });
}

const feeds: Tensors = new Map([
  [
    "input_ids",
    int64(
      Array.from({ length: 8 * BATCH }, (_, i) => (i * 5 + (i % 7)) % 60),
      [BATCH, 8],
    ),
  ],
  [
    "attention_mask",
    int64(
      Array.from({ length: 8 * BATCH }, (_, i) => (i % 8 < 5 + (i % 3) ? 1 : 0)),
      [BATCH, 8],
    ),
  ],
]);

async function run(engine: Engine, graph: TracedGraph, fed: Tensors): Promise<Tensors> {
  const program = await engine.load(graph);
  const results = await program.step(fed);
  await program.dispose();
  return results;
}

/** Products that get a float path beside them: input, output and their sizes, the same in all five files. */
const PATHS = [
  ["embeddings/LayerNorm/LayerNormalization_output_0", "encoder/layer.0/attention/self/query", 32, 32],
  [
    "encoder/layer.0/attention/output/LayerNorm/LayerNormalization_output_0",
    "encoder/layer.0/intermediate/dense",
    32,
    64,
  ],
  ["encoder/layer.1/intermediate/intermediate_act_fn/Mul_1_output_0", "encoder/layer.1/output/dense", 64, 32],
] as const;
const RANK = 4;
const FACTORS = PATHS.flatMap((_, i) => [`a${i}`, `b${i}`]);

/** y + (h·A)·B in place of y for each path, and loss = Σ w·output; A and B are inputs. */
function withPaths(base: TracedGraph): TracedGraph {
  const b = builderOn({ ...base, nodes: [], outputs: [] });
  const sums = new Map<string, string>();
  for (const node of base.nodes) {
    b.place({ ...node, inputs: node.inputs.map((name) => sums.get(name) ?? name) });
    for (const [i, [from, to, rows, columns]] of PATHS.entries()) {
      const [h, y] = [`/m/bert/${from}`, `/m/bert/${to}/MatMul_output_0`];
      if (!node.outputs.includes(y)) continue;
      const a = b.input({ name: `a${i}`, dtype: "float32", shape: [rows, RANK] });
      const up = b.input({ name: `b${i}`, dtype: "float32", shape: [RANK, columns] });
      sums.set(y, b.emit("Add", [y, b.emit("MatMul", [b.emit("MatMul", [h, a]), up])]));
    }
  }
  expect(sums.size, "paths placed").toBe(PATHS.length);
  const weighed = b.emit("Mul", ["output", b.constant(drawn([BATCH, 3], 1))]);
  b.output(b.emit("ReduceSum", [weighed], { axes: [0, 1], keepdims: 0 }), "loss");
  return b.finish();
}

/** Factors as training has them after a few steps: A as it began, B no longer zero. */
const factors: Tensors = new Map(
  PATHS.flatMap(([, , rows, columns], i) => [
    [`a${i}`, drawn([rows, RANK], 10 + i)] as const,
    [`b${i}`, drawn([RANK, columns], 20 + i, 0.05)] as const,
  ]),
);

function drawn(shape: readonly number[], seed: number, reach = 0.3): Tensor {
  const random = seededRandom(seed);
  const values = Array.from({ length: sizeOf(shape) }, () => reach * (2 * random.uniform() - 1));
  return tensorOf("float32", shape, values);
}

function cosine(a: Tensor, b: Tensor): number {
  const dot = (x: Tensor, y: Tensor) => {
    const [u, v] = [numbers(x), numbers(y)];
    return u.reduce((sum, value, i) => sum + value * v[i]!, 0);
  };
  return dot(a, b) / Math.sqrt(dot(a, a) * dot(b, b));
}

/** What the factors' gradients are on an engine, and the loss. */
function gradients(engine: Engine, graph: TracedGraph): Promise<Tensors> {
  const derived = differentiate(withPaths(graph), { loss: "loss", wrt: FACTORS });
  // What was added is standard; a MatMulNBits that no gradient passes stays what it was.
  const own = new Set(graph.nodes.flatMap(({ outputs }) => outputs));
  expect(derived.nodes.filter(({ domain, outputs }) => domain !== "" && !own.has(outputs[0]!))).toEqual([]);
  return run(engine, derived, new Map([...feeds, ...factors]));
}

/**
 * Least cosine between a factor's gradient in a model and in the float one; just below what was measured.
 * Their weights differ, and those of four bits most; saturated values stop gradients only around quantisers.
 */
const ALIGNED: Readonly<Record<Kind, number>> = {
  extdata: 0.999999,
  fp16: 0.99999,
  nbits4: 0.96,
  "dyn-int8": 0.999,
  "qdq-int8": 0.97,
};

describe.each(KINDS)("bert.%s.onnx", (kind) => {
  const graph = model(kind);
  const float = model("extdata");

  test.skipIf(!graph)("tfjs computes what onnxruntime does", async () => {
    const [got, wanted] = [await run(TFJS, graph!, feeds), await run(ORT, graph!, feeds)];
    // Both find the same levels: integers are exact, and what is left is the order of float sums. One
    // level more or less would show as 1e-2.
    expectTensor(got.get("output"), wanted.get("output")!, { what: "output", absolute: 2e-6, relative: 0 });
  });

  test.skipIf(!graph)("its side paths train in the float model's direction, on both engines", async () => {
    const [got, wanted] = [await gradients(TFJS, graph!), await gradients(ORT, graph!)];
    const inFloat = await gradients(ORT, float!);
    for (const name of FACTORS.map((factor) => `grad.${factor}`)) {
      const largest = Math.max(...numbers(wanted.get(name)!).map(Math.abs));
      const absolute = 1e-5 * largest;
      expectTensor(got.get(name), wanted.get(name)!, { what: name, absolute, relative: 0 });
      expect(cosine(wanted.get(name)!, inFloat.get(name)!), name).toBeGreaterThan(ALIGNED[kind]);
    }
  });

  test.skipIf(!graph)("steps against the gradients lower the loss of the levels themselves", async () => {
    const derived = differentiate(withPaths(graph!), { loss: "loss", wrt: FACTORS });
    const program = await TFJS.load(derived);
    let held = factors;
    const losses: number[] = [];
    for (let step = 0; step < 6; step++) {
      const results = await program.step(new Map([...feeds, ...held]));
      losses.push(numbers(results.get("loss")!)[0]!);
      held = new Map(
        [...held].map(([name, tensor]) => [name, stepped(tensor, results.get(`grad.${name}`)!)]),
      );
    }
    await program.dispose();
    expect(losses, "every step").toEqual(losses.toSorted((a, b) => b - a));
    expect(losses.at(-1)!).toBeLessThan(losses[0]! - 0.3);
  });
});

function stepped(tensor: Tensor, gradient: Tensor): Tensor {
  const slopes = numbers(gradient);
  return tensorOf(
    "float32",
    tensor.shape,
    numbers(tensor).map((value, i) => value - 0.5 * slopes[i]!),
  );
}

test("weights of four bits in blocks are dequantised as onnxruntime does", async () => {
  const info = (name: string, elemType: number, dims: readonly bigint[]) => {
    const dim = dims.map((dimValue) => ({ value: { case: "dimValue" as const, value: dimValue } }));
    return { name, type: { value: { case: "tensorType" as const, value: { elemType, shape: { dim } } } } };
  };
  const packed = (count: number, step: number) => Uint8Array.from({ length: count / 2 }, (_, i) => i * step);
  const scales = Float32Array.from({ length: 8 }, (_, i) => 0.1 + 0.03 * i);
  const bytes = encode(
    ModelProtoSchema,
    create(ModelProtoSchema, {
      irVersion: 10n,
      opsetImport: [{ domain: "", version: 21n }],
      graph: {
        name: "blocks",
        input: [info("x", 1, [3n, 8n])],
        output: [info("y", 1, [3n, 4n])],
        initializer: [
          { name: "w", dataType: 22, dims: [8n, 4n], rawData: packed(32, 37) },
          { name: "s", dataType: 1, dims: [2n, 4n], floatData: [...scales] },
          { name: "z", dataType: 22, dims: [2n, 4n], rawData: packed(8, 91) },
        ],
        node: [
          {
            opType: "DequantizeLinear",
            input: ["w", "s", "z"],
            output: ["real"],
            attribute: [
              { name: "axis", type: Type.INT, i: 0n },
              { name: "block_size", type: Type.INT, i: 4n },
            ],
          },
          { opType: "MatMul", input: ["x", "real"], output: ["y"] },
        ],
      },
    }),
  );
  const x = drawn([3, 8], 3);
  const session = await ort.InferenceSession.create(bytes);
  const fed = { x: new ort.Tensor("float32", x.data as Float32Array, [3, 8]) };
  const wanted = numbers({
    dtype: "float32",
    shape: [3, 4],
    data: (await session.run(fed)).y!.data as Float32Array,
  });
  await session.release();
  const got = await run(TFJS, trace(read(bytes).graph), new Map([["x", x]]));
  expectTensor(got.get("y"), tensorOf("float32", [3, 4], wanted), { what: "y", absolute: 1e-6 });
});
