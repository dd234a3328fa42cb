import { type LossRule, labels, rowMean } from "./rule.ts";

/** −y·log σ(x) − (1 − y)·log(1 − σ(x)) = softplus(x) − x·y, which is stable for every x. */
export const binaryCrossEntropy: LossRule = (ops, logits) => {
  const label = labels(ops, "float32", ops.shape(logits));
  const loss = ops.sub(ops.op("Softplus", [logits]), ops.mul(logits, label));
  const said = ops.op("Greater", [logits, ops.build.scalar(0)]);
  const meant = ops.op("Greater", [label, ops.build.scalar(0.5)]);
  const correct = ops.cast(ops.op("Equal", [said, meant]), "float32");
  return { loss: rowMean(ops, loss), correct: rowMean(ops, correct) };
};

export const meanSquaredError: LossRule = (ops, predictions) => {
  const off = ops.sub(predictions, labels(ops, "float32", ops.shape(predictions)));
  return {
    loss: rowMean(ops, ops.mul(off, off)),
    correct: ops.zeros([ops.shape(predictions)[0]!], predictions),
  };
};

/**
 * ½e² where |e| ≤ δ, else δ(|e| − ½δ) (Huber 1964, as torch's huber_loss has it). With c = clip(e, −δ, δ)
 * both are c·(e − ½c).
 */
export const huber =
  (delta: number): LossRule =>
  (ops, predictions) => {
    const off = ops.sub(predictions, labels(ops, "float32", ops.shape(predictions)));
    const cut = ops.op("Clip", [off, ops.number(-delta, off), ops.number(delta, off)]);
    return {
      loss: rowMean(ops, ops.mul(cut, ops.sub(off, ops.scale(cut, 0.5)))),
      correct: ops.zeros([ops.shape(predictions)[0]!], predictions),
    };
  };
