import { seededRandom } from "@tutti/foundation/random";
import { differentiate } from "../../src/differentiate.ts";
import { float32, type Graph, sizeOf, type Tensor, type Tensors, type TracedGraph } from "../../src/ir.ts";
import { withLoss } from "../../src/loss.ts";
import { cnn } from "../../src/make/cnn.ts";
import { mlp } from "../../src/make/mlp.ts";
import { transformer } from "../../src/make/transformer.ts";
import { promote } from "../../src/promote.ts";
import { trace } from "../../src/trace.ts";

export type Step = { readonly graph: TracedGraph; readonly feeds: Tensors };

/** A training step of every weight of a model, and something to feed it. */
export function stepOf(model: Graph, shapes: Readonly<Record<string, readonly number[]>>): Step {
  const names = [...model.initializers.keys()].filter((name) => /\.(weight|bias)$/.test(name));
  const traced = trace(promote(model, names), { shapes });
  const lossy = withLoss(traced, { kind: "softmax-cross-entropy" });
  const graph = differentiate(lossy, { loss: "loss", wrt: names });
  const random = seededRandom("feeds");
  const fed = graph.inputs.map(({ name, dtype }): [string, Tensor] => {
    const { shape } = graph.statics.get(name)!;
    const size = sizeOf(shape);
    if (dtype === "int64")
      return [name, { dtype, shape, data: BigInt64Array.from({ length: size }, (_, at) => BigInt(at % 2)) }];
    const data = new Float32Array(size).map(() => (name === "row_weight" ? 1 : random.normal()));
    return [name, model.initializers.get(name) ?? float32(shape, data)];
  });
  return { graph, feeds: new Map(fed) };
}

/** Text models without a mask: a mask of zeros in turn with ones is no text. */
export function decoderStep({
  layers,
  batch,
  length,
}: {
  layers: number;
  batch: number;
  length: number;
}): Step {
  const model = transformer({
    ...{ kind: "decoder", layers, width: 16, heads: 2, vocabulary: 9, length: 2 * length },
    ...{ head: { classes: 2 }, random: seededRandom("decoder") },
  });
  return stepOf(model, { input_ids: [batch, length] });
}

export function mlpStep(depth: number): Step {
  const hidden = Array<number>(depth).fill(6);
  const model = mlp({ inputs: 4, hidden, outputs: 2, activation: "tanh", random: seededRandom("mlp") });
  return stepOf(model, { x: [32, 4] });
}

export function cnnStep(depth: number): Step {
  const layers = Array.from({ length: depth }, () => ({ channels: 4 }));
  const model = cnn({ image: [1, 8, 8], layers, classes: 2, random: seededRandom("cnn") });
  return stepOf(model, { x: [4, 1, 8, 8] });
}
