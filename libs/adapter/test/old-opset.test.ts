import "@tensorflow/tfjs-backend-wasm";
import * as tf from "@tensorflow/tfjs-core";
import { seededRandom } from "@tutti/foundation/random";
import { expect, test } from "vitest";
import { type Builder, builderOn } from "../../graph/src/builder.ts";
import { differentiate } from "../../graph/src/differentiate.ts";
import { tfjsEngine } from "../../graph/src/engines/tfjs/engine.ts";
import { type Engine, sizeOf, type Tensor, type Tensors, type TracedGraph } from "../../graph/src/ir.ts";
import { withLoss } from "../../graph/src/loss.ts";
import { read } from "../../graph/src/read.ts";
import { int64, numbers, tensorOf } from "../../graph/src/tensor.ts";
import { trace } from "../../graph/src/trace.ts";
import { write } from "../../graph/src/write.ts";
import { inject } from "../src/inject.ts";
import { resolve } from "../src/resolve.ts";
import { engine as onnxruntime } from "./golden.ts";

const BATCH = 3;

function drawn(shape: readonly number[], seed: number): Tensor {
  const random = seededRandom(seed);
  const values = Array.from({ length: sizeOf(shape) }, () => random.uniform() - 0.5);
  return tensorOf("float32", shape, values);
}

/** A CNN as exporters of 2018 wrote it: attributes where there are inputs today, a softmax over all axes. */
function network(opset: number): Uint8Array {
  const b = builderOn(undefined, opset);
  const weight = (shape: readonly number[], seed: number) => b.constant(drawn(shape, seed), `w${seed}`);
  const x = b.input({ name: "x", dtype: "float32", shape: [BATCH, 2, 6, 6] });
  const padded = padding(b, x);
  const conv = b.emit("Conv", [padded, weight([4, 2, 3, 3], 1), weight([4], 2)], { kernel_shape: [3, 3] });
  const [scale, bias, mean, variance] = [3, 4, 5].map((seed) => weight([4], seed)).concat(positive(b)) as [
    ...[string, string, string, string],
  ];
  const normal = b.emit("BatchNormalization", [conv, scale, bias, mean, variance]);
  const clipped = b.emit("Clip", [normal], { min: { float: -0.4 }, max: { float: 6 } });
  const attention = b.emit("Mul", [clipped, b.emit("Softmax", [clipped], { axis: 2 })]);
  const pooled = b.emit("MaxPool", [attention], { kernel_shape: [2, 2], strides: [2, 2] });
  const cut = opset < 10 ? b.emit("Slice", [pooled], { axes: [3], starts: [0], ends: [2] }) : pooled;
  const flat = b.emit("Flatten", [
    b.emit("Squeeze", [b.emit("Unsqueeze", [cut], { axes: [0] })], { axes: [0] }),
  ]);
  const wide = b.shape(flat)[1]!;
  const hidden = b.emit("MatMul", [flat, weight([wide, 5], 6)]);
  const kept = b.emit("Dropout", [hidden], { ratio: { float: 0.5 } });
  const [left, right] = b.emitMany("Split", [kept], { outputs: 2, attributes: { axis: 1, split: [2, 3] } });
  const joined = b.emit("Concat", [right!, left!], { axis: 1 });
  b.output(b.emit("Gemm", [joined, weight([3, 5], 7), weight([3], 8)], { transB: 1 }), "logits");
  return write(b.finish());
}

const padding = (b: Builder, x: string) => b.emit("Pad", [x], { pads: [0, 0, 1, 1, 0, 0, 1, 1] });
const positive = (b: Builder) => b.constant(tensorOf("float32", [4], [0.5, 1, 1.5, 2]));

async function run(engine: Engine, graph: TracedGraph, feeds: Tensors): Promise<Tensors> {
  const program = await engine.load(graph);
  const results = await program.step(feeds);
  await program.dispose();
  return results;
}

test.each([7, 8, 9, 10])("a model of operator set %i is injected, given a loss and trains", async (opset) => {
  const model = read(network(opset));
  const adapter = resolve(model, { rank: 2, alpha: 4, targets: ["*"] });
  expect(adapter.modules).toHaveLength(3);
  const names = adapter.tensors.map(({ name }) => name);
  const lossy = withLoss(inject(trace(model.graph), adapter), { kind: "softmax-cross-entropy" });
  const graph = differentiate(lossy, { loss: "loss", wrt: names });
  const feeds = new Map<string, Tensor>([
    ["x", drawn([BATCH, 2, 6, 6], 20)],
    ["label", int64([0, 2, 1])],
    ["row_weight", tensorOf("float32", [BATCH], [1, 2, 1])],
    ...adapter.tensors.map(({ name, shape }, at) => [name, drawn(shape, 30 + at)] as const),
  ]);
  await tf.setBackend("wasm");
  const [a, b] = [await run(onnxruntime, graph, feeds), await run(tfjsEngine(tf, "wasm"), graph, feeds)];
  for (const name of ["loss", ...names.map((each) => `grad.${each}`)]) {
    const wanted = numbers(b.get(name)!);
    for (const [at, value] of numbers(a.get(name)!).entries()) expect(value).toBeCloseTo(wanted[at]!, 5);
  }
  for (const name of names) {
    const slope = await differences({ graph: lossy, feeds, name, at: 0 });
    expect(numbers(a.get(`grad.${name}`)!)[0]!).toBeCloseTo(slope, 3);
  }
});

type Probe = {
  readonly graph: TracedGraph;
  readonly feeds: Tensors;
  readonly name: string;
  readonly at: number;
};

/** Central differences of the loss in float32: good to about 1e-4 at this step. */
async function differences({ graph, feeds, name, at }: Probe): Promise<number> {
  const h = 0.01;
  const lossAt = async (by: number) => {
    const data = (feeds.get(name)!.data as Float32Array).slice();
    data[at]! += by;
    const moved = new Map([...feeds, [name, { ...feeds.get(name)!, data }]] as const);
    return numbers((await run(onnxruntime, graph, moved)).get("loss")!)[0]!;
  };
  return ((await lossAt(h)) - (await lossAt(-h))) / (2 * h);
}
