import { checkInteger, demand } from "@tutti/foundation/check";
import { Fault } from "@tutti/foundation/fault";
import type { SeededRandom } from "@tutti/foundation/random";
import type { Tensors } from "@tutti/graph/ir";

/**
 * Data as training sees it: rows that can be taken in any order. `take` gives tensors by graph input name,
 * and `label`, each with one row per requested row (rows may repeat), labels already checked against the
 * classes.
 */
export type Examples = {
  readonly count: number;
  take(rows: readonly number[]): Tensors | Promise<Tensors>;
};

/** Either a number of passes over the data, or a number of batches, however many passes that takes. */
export type BatchPlan = { readonly batchSize: number; readonly random: SeededRandom } & (
  | { readonly epochs: number; readonly steps?: never }
  | { readonly steps: number; readonly epochs?: never }
);

const MAX_BATCH = 1 << 20;
const MAX_STEPS = 1 << 24;

/**
 * Batches of exactly `batchSize` rows, shuffled anew for every pass. The last short batch of a pass is filled
 * with its own first row again at `row_weight` 0: a real row, so that the padding cannot make an inf or NaN
 * (an all-zero attention mask would), and 0 times it is 0.
 */
export async function* batches(examples: Examples, plan: BatchPlan): AsyncGenerator<Tensors> {
  const size = checkInteger("batchSize", plan.batchSize, [1, MAX_BATCH]);
  checkInteger(plan.steps === undefined ? "epochs" : "steps", plan.steps ?? plan.epochs, [1, MAX_STEPS]);
  const limit = plan.steps ?? plan.epochs * Math.ceil(examples.count / size);
  let step = 0;
  while (step < limit) {
    const order = plan.random.shuffle(rowsOf(examples));
    for (let at = 0; at < order.length && step < limit; at += size, step++) {
      yield await batch(examples, order.slice(at, at + size), size);
    }
  }
}

/** All examples once, in their own order: for evaluation. */
export async function* inOrder(examples: Examples, batchSize: number): AsyncGenerator<Tensors> {
  const size = checkInteger("batchSize", batchSize, [1, MAX_BATCH]);
  const order = rowsOf(examples);
  for (let at = 0; at < order.length; at += size)
    yield await batch(examples, order.slice(at, at + size), size);
}

async function batch(examples: Examples, rows: readonly number[], size: number): Promise<Tensors> {
  const filled = [...rows, ...Array<number>(size - rows.length).fill(rows[0]!)];
  const weight = new Float32Array(size).fill(1, 0, rows.length);
  const tensors = await examples.take(filled);
  return new Map([...tensors, ["row_weight", { dtype: "float32", shape: [size], data: weight }]]);
}

function rowsOf({ count }: Examples): number[] {
  demand(
    Number.isInteger(count) && count > 0,
    () => new Fault("bad-input", "training data", { expected: "at least one example", got: `${count}` }),
  );
  return Array.from({ length: count }, (_, row) => row);
}
