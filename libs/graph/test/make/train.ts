import "@tensorflow/tfjs-backend-wasm";
import * as tf from "@tensorflow/tfjs-core";
import * as ort from "onnxruntime-node";
import { builderOn } from "../../src/builder.ts";
import { differentiate } from "../../src/differentiate.ts";
import { onnxruntimeEngine } from "../../src/engines/onnxruntime/engine.ts";
import { tfjsEngine } from "../../src/engines/tfjs/engine.ts";
import {
  type Engine,
  float32,
  type Graph,
  sizeOf,
  type Tensor,
  type Tensors,
  type TracedGraph,
} from "../../src/ir.ts";
import { withLoss } from "../../src/loss.ts";
import { opsOn } from "../../src/ops.ts";
import { demote, promote } from "../../src/promote.ts";
import { trace } from "../../src/trace.ts";
import { write } from "../../src/write.ts";

export const ENGINES: readonly Engine[] = [
  tfjsEngine(tf, "wasm"),
  onnxruntimeEngine(ort as never, { session: { intraOpNumThreads: 1 } }),
];

export type Training = {
  readonly engine: Engine;
  /** One batch, trained on again and again: `label` and the model's inputs. */
  readonly batch: Tensors;
  readonly steps: number;
  readonly learningRate: number;
};

/** Trains every float weight of a model by gradient descent with momentum; what that did to the loss. */
export async function trainAll(model: Graph, training: Training): Promise<Trained> {
  const { engine, batch, steps, learningRate } = training;
  const names = [...model.initializers.keys()].filter((name) => /\.(weight|bias)$/.test(name));
  const inputs = model.inputs.map(({ name }) => [name, batch.get(name)!.shape]);
  const promoted = promote(model, names);
  const traced = byRows(trace(promoted, { shapes: Object.fromEntries(inputs) }));
  const lossy = withLoss(traced, { kind: "softmax-cross-entropy" });
  const program = await engine.load(differentiate(lossy, { loss: "loss", wrt: names }));
  const values = new Map(names.map((name) => [name, model.initializers.get(name)!]));
  const velocity = new Map<string, Float32Array>();
  const losses: number[] = [];
  for (let step = 0; step < steps; step++) {
    const results = await program.step(new Map([...batch, ...values]));
    losses.push((results.get("loss")!.data as Float32Array)[0]!);
    for (const [name, { data, shape }] of values) {
      const gradient = results.get(`grad.${name}`)!.data as Float32Array;
      const before = velocity.get(name);
      const now = gradient.map((value, at) => value + 0.9 * (before?.[at] ?? 0));
      velocity.set(name, now);
      values.set(
        name,
        float32(
          shape,
          (data as Float32Array).map((value, at) => value - learningRate * now[at]!),
        ),
      );
    }
  }
  await program.dispose();
  return { losses, trained: demote(promoted, values) };
}

export type Trained = { readonly losses: readonly number[]; readonly trained: Graph };

/** Logits [batch, length, classes] as one row per token, which is what a softmax loss takes. */
function byRows(graph: TracedGraph): TracedGraph {
  const [output] = graph.outputs;
  const { shape } = graph.statics.get(output!.name)!;
  if (shape.length === 2) return graph;
  const build = builderOn({ ...graph, outputs: [] });
  build.output(opsOn(build).reshape(output!.name, [sizeOf(shape.slice(0, -1)), shape.at(-1)!]), "rows");
  return build.finish();
}

/** What a model answers: written out, and run by onnxruntime with no code of ours in between. */
export async function answers(model: Graph, feeds: Tensors): Promise<Float32Array> {
  const session = await ort.InferenceSession.create(write(model), { intraOpNumThreads: 1 });
  const inputs = model.inputs.map(({ name, dtype }) => {
    const { data, shape } = feeds.get(name)!;
    return [name, new ort.Tensor(dtype as "float32", data as never, shape)] as const;
  });
  const results = await session.run(Object.fromEntries(inputs));
  await session.release();
  return results[model.outputs[0]!.name]!.data as Float32Array;
}

export const int64 = (shape: readonly number[], values: readonly number[]): Tensor => ({
  ...{ dtype: "int64", shape },
  data: BigInt64Array.from(values, BigInt),
});
