import type { Ops } from "../ops.ts";
import { demandShape, type LossRule, labels, type Rows, rowSum } from "./rule.ts";

/** The label of a token that does not count, as torch and Hugging Face have it. */
const IGNORED = -100;

/**
 * Softmax cross-entropy: of logits [batch, classes] with labels [batch], or of each part of logits
 * [batch, …, classes] with labels [batch, …], where parts labelled −100 do not count.
 */
export const softmaxCrossEntropy: LossRule = (ops, logits) => {
  const shape = ops.shape(logits);
  demandShape(ops, logits, shape.length >= 2, "logits [batch, classes] or [batch, …, classes]");
  const label = labels(ops, "int64", shape.slice(0, -1));
  if (shape.length > 2) return parts(ops, logits, label);
  const { loss, correct } = answered(ops, logits, label);
  return { loss, correct };
};

/**
 * Next token: logits [batch, length, vocabulary] at place t against the label at t + 1. Labels
 * [batch, length] are the model's own token ids, with −100 where a token is no target (padding, a prompt).
 */
export const nextToken: LossRule = (ops, logits) => {
  const shape = ops.shape(logits);
  const holds = shape.length === 3 && shape[1]! >= 2;
  demandShape(ops, logits, holds, "logits [batch, length ≥ 2, vocabulary]");
  const length = shape[1]!;
  const label = labels(ops, "int64", shape.slice(0, 2));
  const said = ops.slice(logits, { axes: [1], starts: [0], ends: [length - 1] });
  return parts(ops, said, ops.slice(label, { axes: [1], starts: [1], ends: [length] }));
};

/** Sums by row over the parts that are not ignored. */
function parts(ops: Ops, logits: string, label: string): Rows {
  const ignored = ops.op("Equal", [label, ops.build.ints([IGNORED])]);
  const counted = ops.op("Not", [ignored]);
  const { loss, correct } = answered(ops, logits, label);
  const gated = [ops.gate(counted, loss), ops.gate(counted, correct), ops.cast(counted, "float32")];
  const [losses, right, count] = gated.map((x) => rowSum(ops, x));
  return { loss: losses!, correct: right!, parts: count! };
}

/**
 * −log softmax(x)[label] and whether the largest logit is the label's. LogSoftmax subtracts the row's maximum
 * in every engine, so no exponential overflows. A label that is no class has loss 0: it is looked up at the
 * nearest class and then hidden, since GatherElements counts negative places from the end and may fail
 * beyond it.
 */
function answered(ops: Ops, logits: string, label: string): { loss: string; correct: string } {
  const shape = ops.shape(logits);
  const [axis, classes] = [shape.length - 1, shape.at(-1)!];
  const column = ops.reshape(label, [...ops.shape(label), 1]);
  const place = ops.op("Max", [ops.op("Min", [column, ops.build.ints([classes - 1])]), ops.build.ints([0])]);
  const logProbabilities = ops.op("LogSoftmax", [logits], { axis });
  const found = ops.op("GatherElements", [logProbabilities, place], { axis });
  const picked = ops.gate(ops.op("Equal", [column, place]), found);
  const best = ops.op("ArgMax", [logits], { axis, keepdims: 0 });
  return {
    loss: ops.op("Neg", [ops.reshape(picked, ops.shape(label))]),
    correct: ops.cast(ops.op("Equal", [best, label]), "float32"),
  };
}
