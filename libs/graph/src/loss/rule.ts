import { demand } from "@tutti/foundation/check";
import { Fault } from "@tutti/foundation/fault";
import { type Ops, range } from "../ops.ts";

/** What a loss says of each row of a batch, all [batch]. */
export type Rows = {
  /** Loss, summed over the row's parts. */
  readonly loss: string;
  /** How far it was answered right, summed over the parts. */
  readonly correct: string;
  /** How many parts count (tokens, pairs); absent where a row is one. The loss is a mean over parts. */
  readonly parts?: string;
};

/** Emits a loss over `output`; `weight` is the row weights, [batch]. Adds the input `label`. */
export type LossRule = (ops: Ops, output: string, weight: string) => Rows;

/** The labels, a new input. */
export function labels(ops: Ops, dtype: "int64" | "float32", shape: readonly number[]): string {
  return ops.build.input({ name: "label", dtype, shape });
}

/** Means over everything but the batch. */
export function rowMean(ops: Ops, x: string): string {
  return ops.mean(x, range(ops.shape(x).length).slice(1));
}

/** Sums over everything but the batch. */
export function rowSum(ops: Ops, x: string): string {
  return ops.sum(x, range(ops.shape(x).length).slice(1));
}

/** Demands a shape, naming the loss and what its output is. */
export function demandShape(ops: Ops, output: string, holds: boolean, expected: string): void {
  demand(
    holds,
    () => new Fault("unsupported", `loss of ${output}`, { expected, got: `shape [${ops.shape(output)}]` }),
  );
}
