import { readFileSync } from "node:fs";
import * as ort from "onnxruntime-node";
import { describe, expect, test } from "vitest";
import { onnxruntimeEngine } from "../../src/engines/onnxruntime/engine.ts";
import { evaluate } from "../../src/evaluate/evaluate.ts";
import { type Static, sizeOf, type Tensor, type Tensors, type TracedGraph } from "../../src/ir.ts";
import { read } from "../../src/read.ts";
import { tensorOf } from "../../src/tensor.ts";
import { trace } from "../../src/trace.ts";
import { write } from "../../src/write.ts";
import { expectTensor } from "../compare.ts";
import { shared } from "../shared.ts";

const MODELS = [
  "models/sentiment_bert_amazon.onnx",
  "models/mnist_cnn_0to4.onnx",
  ...["mlp", "bert", "cnn"].flatMap((kind) => [
    `conformance/peft/${kind}/base.dynamo.onnx`,
    `conformance/peft/${kind}/base.legacy.onnx`,
  ]),
  ...["bert", "cnn", "gpt2", "gru", "mlp", "resnet"].flatMap((kind) => [
    `conformance/exports/${kind}.dynamo.onnx`,
    `conformance/exports/${kind}.legacy.onnx`,
  ]),
  "conformance/exports/mobilenetv2.legacy.onnx",
  "conformance/exports/vit.legacy.onnx",
  ...["dyn-int8", "qdq-int8", "nbits4", "fp16", "extdata"].map(
    (kind) => `conformance/quantised/bert.${kind}.onnx`,
  ),
];

describe("real models", () => {
  test.each(MODELS)("%s: what we trace and write computes what the file does", async (path) => {
    const file = shared(path);
    if (!file) return;
    const bytes = readFileSync(file);
    const folder = file.slice(0, file.lastIndexOf("/") + 1);
    const { graph } = read(bytes, { externalData: (location) => readFileSync(folder + location) });
    const traced = trace(graph, { symbols: { batch: 3 } });
    for (const { name } of traced.outputs) expect(traced.statics.has(name)).toBe(true);
    const feeds = feedsOf(traced);
    // onnxruntime's optimiser trades numbers for speed where arithmetic is coarse: int8 kernels, casts
    // to half moved.
    const coarse = /int8|fp16/.test(path);
    const session: Session = coarse ? { graphOptimizationLevel: "disabled" } : {};
    const expected = await runFile(file, feeds, session);

    const program = await onnxruntimeEngine(ort, { session }).load(traced);
    const results = await program.step(feeds);
    await program.dispose();
    const again = trace(read(write(traced)).graph);
    expect(again.nodes).toEqual(traced.nodes);

    // Half: onnxruntime computes in float32 between casts, our folded constants are rounded to half
    // once more.
    const absolute = path.includes("fp16") ? 2e-3 : 1e-6;
    for (const [name, tensor] of expected) {
      expectTensor(results.get(name), tensor, { what: name, absolute, relative: 1e-5 });
    }
    // The slow twin is too slow for the larger CNNs; operators there are the small ones' too.
    if (/resnet|mobilenet|vit/.test(path)) return;
    const slow = evaluate(traced, feeds);
    for (const [name, tensor] of expected)
      expectTensor(slow.get(name), tensor, { what: name, absolute: coarse ? 1e-2 : 1e-4 });
  });
});

/** Ids, masks of 1 and waves, as ../shared says these models are to be fed. */
function feedsOf(traced: TracedGraph): Tensors {
  const value = (name: string, i: number) => (/mask/.test(name) ? 1 : (i * 7 + 3) % 60);
  const feed = (name: string, { dtype, shape }: Static): Tensor => {
    const fill = (i: number) => (dtype === "int64" ? value(name, i) : Math.sin(i));
    return tensorOf(
      dtype,
      shape,
      Array.from({ length: sizeOf(shape) }, (_, i) => fill(i)),
    );
  };
  return new Map(traced.inputs.map(({ name }) => [name, feed(name, traced.statics.get(name)!)]));
}

type Session = ort.InferenceSession.SessionOptions;

/** The oracle: onnxruntime on the untouched file. */
async function runFile(path: string, feeds: Tensors, options: Session): Promise<Map<string, Tensor>> {
  const session = await ort.InferenceSession.create(path, options);
  const inputs = [...feeds].map(([name, { dtype, data, shape }]) => [
    name,
    new ort.Tensor(dtype, data as never, shape),
  ]);
  const results = await session.run(Object.fromEntries(inputs));
  await session.release();
  return new Map(
    Object.entries(results).map(([name, { type, dims, data }]) => [
      name,
      { dtype: type as Tensor["dtype"], shape: dims, data: data as Tensor["data"] },
    ]),
  );
}
