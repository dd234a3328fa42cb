import type { Ops } from "../ops.ts";
import type { Site } from "../site.ts";
import { type Expansion, single } from "./rule.ts";

// Classes are axis 1, labels have the other axes. A label is compared with every class rather than looked up:
// elementwise work of the size of the scores, in both directions, and no engine scatters.

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
  const hit = hits(at, ops);
  const weights = at.has(2) ? perClass(at, ops, at.input(2)) : undefined;
  const weighted = weights === undefined ? logProbabilities : ops.mul(logProbabilities, weights);
  const terms = ops.op("Neg", [ops.gate(hit, weighted)]);
  const reduction = at.string("reduction", "mean");
  if (reduction === "none") return ops.sum(terms, [1]);
  const all = at.shape(0).map((_, axis) => axis);
  const total = ops.sum(terms, all);
  if (reduction === "sum") return total;
  if (reduction !== "mean")
    throw at.fault("bad-input", "attribute reduction", { expected: "none, mean or sum", got: reduction });
  return ops.div(total, ops.sum(ops.gate(hit, weights ?? ops.number(1, logProbabilities)), all));
}

/** Where the class is the label's and the label is not ignored: bool, of the scores' shape. */
function hits(at: Site, ops: Ops): string {
  const [n, classes, ...rest] = at.shape(0) as [number, number, ...number[]];
  const labels = ops.op("Cast", [ops.reshape(at.input(1), [n, 1, ...rest])], { to: INT64 });
  const numbered = perClass(at, ops, ops.build.ints(Array.from({ length: classes }, (_, c) => c)));
  const hit = ops.op("Equal", [labels, numbered]);
  if (!at.node.attributes.has("ignore_index")) return hit;
  const ignored = ops.op("Equal", [labels, ops.build.ints([at.int("ignore_index")])]);
  return ops.op("And", [hit, ops.op("Not", [ignored])]);
}

/** A vector over the classes as `[1, C, 1, …]`. */
function perClass(at: Site, ops: Ops, x: string): string {
  return ops.reshape(
    x,
    at.shape(0).map((size, axis) => (axis === 1 ? size : 1)),
  );
}

/** TensorProto.DataType. */
const INT64 = 7;
