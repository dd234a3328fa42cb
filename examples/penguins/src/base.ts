import { seededRandom } from "@tutti/foundation/random";
import { differentiate } from "@tutti/graph/differentiate";
import { type Engine, float32 } from "@tutti/graph/ir";
import { withLoss } from "@tutti/graph/loss";
import { mlp } from "@tutti/graph/make/mlp";
import { promote } from "@tutti/graph/promote";
import { trace } from "@tutti/graph/trace";
import { write } from "@tutti/graph/write";
import { batches } from "@tutti/train/batches";
import { fit } from "@tutti/train/fit";
import { adamW } from "@tutti/train/optimiser";
import { flatten, layoutOf, unflatten } from "@tutti/update/layout";
import type { Bird } from "./birds.ts";
import { examplesOf } from "./examples.ts";

const STEPS = 4;

/**
 * How the base model was made: a small perceptron over raw measurements, trained on the public birds by the
 * same graph machinery that trains adapters, with every weight trainable. The normaliser is part of the
 * graph.
 */
export async function makeBase(
  birds: readonly Bird[],
  options: { engine: Engine; seed: number },
): Promise<Uint8Array> {
  const random = seededRandom(`${options.seed}/base`);
  const graph = mlp({
    inputs: 4,
    hidden: [16],
    outputs: 3,
    random,
    normalise: spread(birds),
    inputName: "measurements",
    outputName: "species",
  });
  const weights = [...graph.initializers].filter(([name]) => /\.(weight|bias)$/.test(name));
  const layout = layoutOf(weights.map(([name, { shape }]) => ({ name, shape })));
  const start = flatten(layout, new Map(weights.map(([name, { data }]) => [name, data as Float32Array])));
  const traced = trace(graph, { symbols: { batch: birds.length } });
  const names = layout.tensors.map(({ name }) => name);
  const training = differentiate(withLoss(promote(traced, names), { kind: "softmax-cross-entropy" }), {
    loss: "loss",
    wrt: names,
  });
  const program = await options.engine.load(training);
  try {
    const { parameters } = await fit({
      program,
      layout,
      parameters: start,
      batches: batches(examplesOf(birds), { batchSize: birds.length, steps: STEPS, random }),
      optimiser: adamW({ learningRate: 0.02 }),
    });
    const trained = unflatten(layout, parameters);
    const tensors = layout.tensors.map(
      ({ name, shape }) => [name, float32(shape, trained.get(name)!)] as const,
    );
    return write({ ...graph, initializers: new Map([...graph.initializers, ...tensors]) });
  } finally {
    await program.dispose();
  }
}

function spread(birds: readonly Bird[]): { mean: number[]; std: number[] } {
  const columns = [0, 1, 2, 3].map((column) => birds.map((bird) => bird.features[column]!));
  const mean = columns.map((values) => values.reduce((sum, value) => sum + value, 0) / values.length);
  const std = columns.map((values, at) =>
    Math.sqrt(values.reduce((sum, v) => sum + (v - mean[at]!) ** 2, 0) / (values.length - 1)),
  );
  // Other species lie further out than the public ones' own spread: twice of it keeps them within a few
  // units.
  return { mean, std: std.map((one) => 2 * one) };
}
