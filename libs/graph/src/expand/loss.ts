import type { Ops } from "../ops.ts";
import type { Site } from "../site.ts";
import { type Expansion, single } from "./rule.ts";

// Classes are axis 1, labels have the other axes and are looked up: over 32000 classes that took, with the
// gradient, 36 to 71 % of the time of comparing every class with the label.

/** Scores `[N, C, …]`, labels `[N, …]`, weights `[C]` (SoftmaxCrossEntropyLoss, since version 12). */
export const SoftmaxCrossEntropyLoss: Expansion = (at, ops) => {
  const logProbabilities = logSoftmax(at, ops);
  return [picked(at, ops, logProbabilities), logProbabilities];
};

/** Log probabilities `[N, C, …]`, labels `[N, …]`, weights `[C]` (NegativeLogLikelihoodLoss, since 12). */
export const NegativeLogLikelihoodLoss = single((at, ops) => picked(at, ops, at.input(0)));

/** Before version 13 LogSoftmax took all axes from its own on as one, so the classes go last. */
function logSoftmax(at: Site, ops: Ops): string {
  const rank = at.shape(0).length;
  if (at.opset >= 13 || rank === 2) return ops.op("LogSoftmax", [at.input(0)], { axis: 1 });
  const turn = (axis: number, into: number) => {
    const order = at.shape(0).map((_, i) => i);
    order.splice(into, 0, ...order.splice(axis, 1));
    return order;
  };
  const last = ops.transpose(at.input(0), turn(1, rank - 1));
  return ops.transpose(ops.op("LogSoftmax", [last], { axis: rank - 1 }), turn(rank - 1, 1));
}

/** −w·log p of each label, reduced; `mean` divides by the weights that counted. */
function picked(at: Site, ops: Ops, logProbabilities: string): string {
  const { places, counts } = labelled(at, ops);
  const weights = at.has(2) ? ops.op("Gather", [at.input(2), places], { axis: 0 }) : undefined;
  const found = ops.op("Neg", [ops.op("GatherElements", [logProbabilities, places], { axis: 1 })]);
  const counted = (x: string) => (counts === undefined ? x : ops.gate(counts, x));
  const terms = counted(weights === undefined ? found : ops.mul(found, weights));
  const reduction = at.string("reduction", "mean");
  if (reduction === "none") return ops.reshape(terms, at.shape(1));
  const all = at.shape(0).map((_, axis) => axis);
  if (reduction === "sum") return ops.sum(terms, all);
  if (reduction !== "mean")
    throw at.fault("bad-input", "attribute reduction", { expected: "none, mean or sum", got: reduction });
  if (weights === undefined && counts === undefined) return ops.mean(terms, all);
  const ones = () => ops.expand(ops.number(1, found), ops.shape(found));
  return ops.div(ops.sum(terms, all), ops.sum(counted(weights ?? ones()), all));
}

/** Labels as `[N, 1, …]`, the ignored ones as class 0, and which are not ignored, if any may be. */
function labelled(at: Site, ops: Ops): { places: string; counts: string | undefined } {
  const [n, , ...rest] = at.shape(0) as [number, number, ...number[]];
  const labels = ops.cast(ops.reshape(at.input(1), [n, 1, ...rest]), "int64");
  if (!at.node.attributes.has("ignore_index")) return { places: labels, counts: undefined };
  const ignored = ops.op("Equal", [labels, ops.build.ints([at.int("ignore_index")])]);
  const places = ops.where(ignored, ops.build.ints([0]), labels);
  return { places, counts: ops.op("Not", [ignored]) };
}
