import { demand } from "@tutti/foundation/check";
import { Fault } from "@tutti/foundation/fault";
import { builderOn } from "./builder.ts";
import type { TracedGraph } from "./ir.ts";
import { nextToken, softmaxCrossEntropy } from "./loss/classes.ts";
import { contrastivePair } from "./loss/pairs.ts";
import type { LossRule, Rows } from "./loss/rule.ts";
import { binaryCrossEntropy, huber, meanSquaredError } from "./loss/values.ts";
import { type Ops, opsOn } from "./ops.ts";
import { withOutputs } from "./prune.ts";
import { raisedForTraining } from "./raise.ts";

/** A loss by name, with what it needs to know. */
export type Loss =
  | { readonly kind: "softmax-cross-entropy" }
  | { readonly kind: "binary-cross-entropy" }
  | { readonly kind: "mean-squared-error" }
  /** Where the square ends and the straight line begins; 1 by default. */
  | { readonly kind: "huber"; readonly delta?: number }
  | { readonly kind: "next-token" }
  /** How far rows with different labels are pushed apart; 1 by default. */
  | { readonly kind: "contrastive-pair"; readonly margin?: number };

export type LossKind = Loss["kind"];

export type LossOptions = Loss & {
  /** The value the loss is taken of; the graph's first output by default. */
  readonly output?: string;
};

/** Inputs and outputs a loss adds to a graph. */
export const LOSS_INPUTS = ["label", "row_weight"] as const;
export const LOSS_OUTPUTS = ["loss", "loss_sum", "correct", "weight_sum"] as const;

/**
 * Appends a loss to a graph; the graph's own outputs stay. One of an old operator set is raised (raise.ts).
 *
 * | kind | output | label |
 * |---|---|---|
 * | softmax-cross-entropy | logits [batch, …, classes] | int64 [batch, …] |
 * | next-token | logits [batch, length, vocabulary] | int64 [batch, length]: the token ids |
 * | binary-cross-entropy | logits [batch, …] | float32 [batch, …], 0 to 1 |
 * | mean-squared-error, huber | predictions [batch, …] | float32 [batch, …] |
 * | contrastive-pair | embeddings [batch, width] | int64 [batch]: rows with one label belong together |
 *
 * New inputs: `label`, and `row_weight` (float32 [batch]; 0 for padding). New outputs, all scalars: `loss`,
 * the weighted mean; `loss_sum`; `correct`, the weighted count of right answers (0 for regressions); and
 * `weight_sum`. Elements of one row of values count as their mean, as in torch; tokens and pairs are a mean
 * over those that count in the whole batch, as Hugging Face's token mean is, each weighing as its row. Always
 * `loss` = `loss_sum` / `weight_sum`, and `correct` ≤ `weight_sum`. Labels are not checked here: the data
 * layer has refused those outside 0…classes − 1, and one that came through would count as loss 0. A row of
 * weight 0 must still be finite; batches repeat a real row as padding.
 * @throws Fault("unsupported" | "bad-input" | "not-found" | "conflict") naming the output or the clashing
 * name.
 */
export function withLoss(graph: TracedGraph, options: LossOptions): TracedGraph {
  const name = outputOf(graph, options.output);
  for (const taken of [...LOSS_INPUTS, ...LOSS_OUTPUTS]) {
    const free = !graph.statics.has(taken) && !graph.outputs.some((other) => other.name === taken);
    demand(free, () => new Fault("conflict", `withLoss: the model already has a value called ${taken}`));
  }
  const base = raisedForTraining(withOutputs(graph, [name]));
  const build = builderOn({ ...base, outputs: graph.outputs });
  const ops = opsOn(build);
  const weight = build.input({ name: "row_weight", dtype: "float32", shape: [build.shape(name)[0]!] });
  total(ops, ruleOf(options)(ops, name, weight), weight);
  return build.finish();
}

function outputOf(graph: TracedGraph, asked: string | undefined): string {
  const name = asked ?? graph.outputs[0]?.name;
  const known = graph.statics.get(name ?? "");
  demand(
    name && known,
    () => new Fault("not-found", `loss output ${name}`, { expected: "a value of the graph" }),
  );
  const got = `${known.dtype} [${known.shape}]`;
  demand(
    known.dtype === "float32" && known.shape.length > 0,
    () => new Fault("unsupported", `loss of ${name}`, { expected: "float32 [batch, …]", got }),
  );
  return name;
}

function ruleOf(loss: Loss): LossRule {
  switch (loss.kind) {
    case "softmax-cross-entropy":
      return softmaxCrossEntropy;
    case "binary-cross-entropy":
      return binaryCrossEntropy;
    case "mean-squared-error":
      return meanSquaredError;
    case "huber":
      return huber(above("huber delta", loss.delta ?? 1));
    case "next-token":
      return nextToken;
    case "contrastive-pair":
      return contrastivePair(above("contrastive-pair margin", loss.margin ?? 1));
  }
}

function above(what: string, value: number): number {
  const got = `${value}`;
  demand(
    Number.isFinite(value) && value > 0,
    () => new Fault("bad-input", what, { expected: "a number above 0", got }),
  );
  return value;
}

function total(ops: Ops, rows: Rows, weight: string): void {
  const { build } = ops;
  const weighted = (x: string) => ops.sum(ops.mul(x, weight), [0]);
  const weightSum = ops.sum(weight, [0]);
  const sums = { loss: weighted(rows.loss), correct: weighted(rows.correct) };
  // A batch of padding alone has weight 0 and loss 0: the floor makes that 0/1e-12 and not 0/0.
  const over = (x: string, count: string) => ops.div(x, ops.op("Max", [count, build.scalar(1e-12)]));
  const parts = rows.parts === undefined ? undefined : weighted(rows.parts);
  const loss = over(sums.loss, parts ?? weightSum);
  const scaled = (x: string) => (parts === undefined ? x : ops.mul(over(x, parts), weightSum));
  build.output(loss, "loss");
  build.output(scaled(sums.loss), "loss_sum");
  build.output(scaled(sums.correct), "correct");
  build.output(weightSum, "weight_sum");
}
