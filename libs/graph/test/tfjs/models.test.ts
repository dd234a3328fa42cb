import { readFileSync } from "node:fs";
import * as ort from "onnxruntime-node";
import { describe, expect, test } from "vitest";
import { tfjsEngine } from "../../src/engines/tfjs/engine.ts";
import { type Static, sizeOf, type Tensor, type Tensors, type TracedGraph } from "../../src/ir.ts";
import { read } from "../../src/read.ts";
import { tensorOf } from "../../src/tensor.ts";
import { trace } from "../../src/trace.ts";
import { shared } from "../shared.ts";
import { expectClose, tf } from "./harness.ts";

const MODELS = [
  "models/sentiment_bert_amazon.onnx",
  "models/mnist_cnn_0to4.onnx",
  ...["mlp", "bert", "cnn"].flatMap((kind) => [
    `conformance/peft/${kind}/base.dynamo.onnx`,
    `conformance/peft/${kind}/base.legacy.onnx`,
  ]),
  ...["bert", "cnn", "gpt2", "mlp", "resnet"].flatMap((kind) => [
    `conformance/exports/${kind}.dynamo.onnx`,
    `conformance/exports/${kind}.legacy.onnx`,
  ]),
  "conformance/exports/mobilenetv2.legacy.onnx",
  "conformance/exports/vit.legacy.onnx",
];

describe("real models, forward, as onnxruntime computes the untouched file", () => {
  test.each(MODELS)("%s on wasm", (path) => agrees(path, "wasm"));
  // The cpu backend is slow; the smaller models hold every operator of the larger.
  test.each(MODELS.slice(0, 8))("%s on cpu", (path) => agrees(path, "cpu"));
});

async function agrees(path: string, backend: string): Promise<void> {
  const file = shared(path);
  if (!file) return;
  const bytes = readFileSync(file);
  const graph = trace(read(bytes).graph, { symbols: { batch: 3 } });
  const feeds = feedsOf(graph);
  const wanted = await runFile(bytes, feeds);
  await tf.setBackend(backend);
  const before = tf.memory().numTensors;
  const program = await tfjsEngine(tf, backend).load(graph);
  const loaded = tf.memory().numTensors;
  await program.step(feeds);
  const got = await program.step(feeds);
  expect(tf.memory().numTensors, "tensors after a step").toBe(loaded);
  await program.dispose();
  expect(tf.memory().numTensors, "tensors after dispose").toBe(before);
  for (const [name, tensor] of wanted) expectClose(got.get(name)!, tensor, `${path} ${name}`);
}

/** Ids, masks of 1 and waves, as ../shared says these models are to be fed. */
function feedsOf(graph: TracedGraph): Tensors {
  const integer = (name: string, i: number) => (/mask/.test(name) ? 1 : (i * 7 + 3) % 60);
  const feed = (name: string, { dtype, shape }: Static): Tensor => {
    const fill = (_: unknown, i: number) => (dtype === "int64" ? integer(name, i) : Math.sin(i));
    return tensorOf(dtype, shape, Array.from({ length: sizeOf(shape) }, fill));
  };
  return new Map(graph.inputs.map(({ name }) => [name, feed(name, graph.statics.get(name)!)]));
}

async function runFile(bytes: Uint8Array, feeds: Tensors): Promise<Tensors> {
  const session = await ort.InferenceSession.create(bytes);
  const inputs = [...feeds].map(([name, { dtype, data, shape }]) => {
    return [name, new ort.Tensor(dtype as "float32", data as Float32Array, shape)] as const;
  });
  const results = await session.run(Object.fromEntries(inputs));
  await session.release();
  const entries = Object.entries(results).map(([name, { type, dims, data }]) => {
    return [name, { dtype: type as Tensor["dtype"], shape: dims, data: data as Float32Array }] as const;
  });
  return new Map(entries);
}
