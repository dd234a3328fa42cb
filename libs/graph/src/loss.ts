import { demand } from "@tutti/foundation/check";
import { Fault } from "@tutti/foundation/fault";
import { type Builder, builderOn } from "./builder.ts";
import type { DType, TracedGraph } from "./ir.ts";
import { type Ops, opsOn, range } from "./ops.ts";

export type LossKind = "softmax-cross-entropy" | "binary-cross-entropy" | "mean-squared-error";

export type LossOptions = {
  readonly kind: LossKind;
  /** The value the loss is taken of: logits [batch, classes], logits [batch, …] or predictions [batch, …]. */
  readonly output?: string;
};

/** Inputs and outputs a loss adds to a graph. */
export const LOSS_INPUTS = ["label", "row_weight"] as const;
export const LOSS_OUTPUTS = ["loss", "loss_sum", "correct", "weight_sum"] as const;

/** Per row: its loss and how far it was answered right (0…1), both [batch]. */
type Rows = { readonly loss: string; readonly correct: string };

/**
 * Appends a loss to a graph; the graph's own outputs stay. New inputs: `label` (int64 [batch] for softmax
 * cross-entropy, else float32 of the output's shape) and `row_weight` (float32 [batch]; 0 for padding). New
 * outputs, all scalars: `loss` (mean weighted by row), `loss_sum`, `correct` (weighted count of right
 * answers; 0 for squared error) and `weight_sum`. Where a row has several elements (BCE, MSE), its loss is
 * their mean, as in torch. Labels are not checked here: the data layer has refused those outside 0…classes −
 * 1, and one that came through would count as loss 0. A row of weight 0 must still be finite; batches repeat
 * a real row as padding.
 * @throws Fault("unsupported" | "bad-input" | "not-found" | "conflict") naming the output or the clashing
 * name.
 */
export function withLoss(graph: TracedGraph, { kind, output }: LossOptions): TracedGraph {
  const name = output ?? graph.outputs[0]?.name;
  const known = graph.statics.get(name ?? "");
  demand(
    name && known,
    () => new Fault("not-found", `loss output ${name}`, { expected: "a value of the graph" }),
  );
  demand(
    known.dtype === "float32" && known.shape.length > 0,
    () => new Fault("unsupported", `loss of ${name}`, { expected: "float32 [batch, …]", got: known.dtype }),
  );
  for (const taken of [...LOSS_INPUTS, ...LOSS_OUTPUTS]) {
    const free = !graph.statics.has(taken) && !graph.outputs.some((other) => other.name === taken);
    demand(free, () => new Fault("conflict", `withLoss: the model already has a value called ${taken}`));
  }
  const build = builderOn(graph);
  const rows = ROWS[kind](opsOn(build), build, name);
  total(opsOn(build), rows, known.shape[0]!);
  return build.finish();
}

function total(ops: Ops, rows: Rows, batch: number): void {
  const { build } = ops;
  const weight = build.input({ name: "row_weight", dtype: "float32", shape: [batch] });
  const lossSum = ops.sum(ops.mul(rows.loss, weight), [0]);
  const weightSum = ops.sum(weight, [0]);
  // A batch of padding alone has weight 0 and loss 0: the floor makes that 0/1e-12 and not 0/0.
  build.output(ops.div(lossSum, ops.op("Max", [weightSum, build.scalar(1e-12)])), "loss");
  build.output(lossSum, "loss_sum");
  build.output(ops.sum(ops.mul(rows.correct, weight), [0]), "correct");
  build.output(weightSum, "weight_sum");
}

const ROWS: Record<LossKind, (ops: Ops, build: Builder, output: string) => Rows> = {
  "softmax-cross-entropy": softmaxCrossEntropy,
  "binary-cross-entropy": binaryCrossEntropy,
  "mean-squared-error": meanSquaredError,
};

/**
 * −log softmax(x)[label]. LogSoftmax subtracts the row's maximum in every engine, so no exponential
 * overflows.
 */
function softmaxCrossEntropy(ops: Ops, build: Builder, logits: string): Rows {
  const shape = build.shape(logits);
  demand(
    shape.length === 2,
    () =>
      new Fault("unsupported", `softmax cross-entropy of ${logits}`, {
        expected: "logits [batch, classes]",
        got: `shape [${shape}]`,
      }),
  );
  const [batch, classes] = [shape[0]!, shape[1]!];
  const label = build.input({ name: "label", dtype: "int64", shape: [batch] });
  const column = ops.reshape(label, [batch, 1]);
  const hit = ops.op("Equal", [column, ops.reshape(build.ints(range(classes)), [1, classes])]);
  // Picked by Where: a class masked to −inf must not meet a factor 0 (−inf·0 is NaN).
  const picked = ops.gate(hit, ops.op("LogSoftmax", [logits], { axis: 1 }));
  const best = ops.op("ArgMax", [logits], { axis: 1, keepdims: 0 });
  return {
    loss: ops.op("Neg", [ops.sum(picked, [1])]),
    correct: toFloat(ops, ops.op("Equal", [best, label])),
  };
}

/** −y·log σ(x) − (1 − y)·log(1 − σ(x)) = softplus(x) − x·y, which is stable for every x. */
function binaryCrossEntropy(ops: Ops, build: Builder, logits: string): Rows {
  const label = build.input({ name: "label", dtype: "float32", shape: build.shape(logits) });
  const loss = ops.sub(ops.op("Softplus", [logits]), ops.mul(logits, label));
  const said = toFloat(ops, ops.op("Greater", [logits, build.scalar(0)]));
  const meant = toFloat(ops, ops.op("Greater", [label, build.scalar(0.5)]));
  return { loss: rowMean(ops, loss), correct: rowMean(ops, toFloat(ops, ops.op("Equal", [said, meant]))) };
}

function meanSquaredError(ops: Ops, build: Builder, predictions: string): Rows {
  const label = build.input({ name: "label", dtype: "float32", shape: build.shape(predictions) });
  const off = ops.sub(predictions, label);
  return {
    loss: rowMean(ops, ops.mul(off, off)),
    correct: ops.zeros([build.shape(predictions)[0]!], predictions),
  };
}

function rowMean(ops: Ops, x: string): string {
  const [, ...rest] = range(ops.shape(x).length) as [number, ...number[]];
  return ops.mean(x, rest);
}

function toFloat(ops: Ops, x: string): string {
  const dtype: DType = ops.build.static(x).dtype;
  return dtype === "float32" ? x : ops.op("Cast", [x], { to: FLOAT });
}

/** TensorProto.DataType FLOAT. */
const FLOAT = 1;
