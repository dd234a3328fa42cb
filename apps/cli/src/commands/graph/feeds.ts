import { initialAdapter } from "@tutti/adapter/initial";
import { factorOf } from "@tutti/adapter/spec";
import type { SeededRandom } from "@tutti/foundation/random";
import { float32, type Static, sizeOf, type Tensor, type Tensors } from "@tutti/graph/ir";
import type { Loss } from "@tutti/graph/loss";
import type { Model } from "@tutti/graph/read";
import { tensorOf } from "@tutti/graph/tensor";
import type { Derived } from "./step.ts";

/** How far from zero the factors that PEFT begins at zero are put, so that no gradient is trivially zero. */
const SPREAD = 0.1;

type FeedOptions = {
  readonly loss: Loss & { readonly output?: string };
  readonly random: SeededRandom;
};

/**
 * One batch for a training step, and adapter tensors: normal values for floats, row numbers for what picks
 * rows of a table, ones (a mask that hides nothing) for any other integers. Labels fit the loss.
 */
export function feedsFor(model: Model, made: Derived, options: FeedOptions): Tensors {
  const { random } = options;
  const tensors = initialAdapter(made.adapter, random.fork("adapter"), model);
  const stream = random.fork("batch");
  const feeds = new Map<string, Tensor>();
  for (const { name } of made.step.inputs) {
    const known = made.step.statics.get(name)!;
    const held = tensors.get(name);
    if (held) feeds.set(name, float32(known.shape, factorOf(name) === "B" ? shifted(held, stream) : held));
    else if (name === "label") feeds.set(name, labels(model, known, { made, ...options }));
    else if (name === "row_weight")
      feeds.set(
        name,
        filled(known, () => 1),
      );
    else feeds.set(name, datum(known, rowsPicked(model, name), stream));
  }
  // The token ids are the labels of next-token.
  const ids = options.loss.kind === "next-token" && feeds.get(firstTokens(feeds, made) ?? "");
  return ids ? feeds.set("label", ids) : feeds;
}

const shifted = (values: Float32Array, random: SeededRandom) =>
  values.map((value) => value + SPREAD * random.normal());

function datum(known: Static, rows: number | undefined, random: SeededRandom): Tensor {
  if (known.dtype === "float32" || known.dtype === "float64") return filled(known, random.normal);
  return filled(known, () => (rows === undefined ? 1 : Math.floor(random.uniform() * rows)));
}

/** Rows of the smallest table that an input picks from. */
function rowsPicked({ graph }: Model, input: string): number | undefined {
  const same = new Set([input]);
  let least: number | undefined;
  for (const { op, inputs, outputs } of graph.nodes) {
    if (KEEPING.has(op) && same.has(inputs[0]!)) same.add(outputs[0]!);
    if (op !== "Gather" || !same.has(inputs[1]!)) continue;
    const rows = graph.initializers.get(inputs[0]!)?.shape[0];
    if (rows !== undefined) least = Math.min(least ?? rows, rows);
  }
  return least;
}

const KEEPING: ReadonlySet<string> = new Set(["Cast", "Identity", "Reshape", "Squeeze", "Unsqueeze"]);

type LabelOptions = FeedOptions & { readonly made: Derived };

function labels({ graph }: Model, known: Static, { made, loss, random }: LabelOptions): Tensor {
  const stream = random.fork("labels");
  const classes = made.judged.statics.get(loss.output ?? graph.outputs[0]!.name)?.shape.at(-1) ?? 2;
  if (loss.kind === "softmax-cross-entropy" || loss.kind === "next-token")
    return filled(known, () => Math.floor(stream.uniform() * classes));
  if (loss.kind === "contrastive-pair") {
    let row = 0;
    return filled(known, () => Math.floor(row++ / 2));
  }
  return filled(known, loss.kind === "binary-cross-entropy" ? stream.uniform : stream.normal);
}

function firstTokens(feeds: Tensors, { step }: Derived): string | undefined {
  const label = step.statics.get("label")!;
  const alike = step.inputs.find(({ name }) => {
    const feed = feeds.get(name)!;
    return name !== "label" && feed.dtype === label.dtype && `${feed.shape}` === `${label.shape}`;
  });
  return alike?.name;
}

function filled({ dtype, shape }: Static, draw: () => number): Tensor {
  return tensorOf(dtype, shape, Array.from({ length: sizeOf(shape) }, draw));
}
