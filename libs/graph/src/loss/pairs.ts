import { type Ops, range } from "../ops.ts";
import { demandShape, type LossRule, labels, rowSum } from "./rule.ts";

/** Added under the root of a squared distance, since √'s slope at 0 is infinite. */
const TINY = 1e-12;

/**
 * Twice the pair loss of Hadsell, Chopra and LeCun 2006 (equation 4), over every pair of rows in the batch,
 * so that rows need not come in pairs: d² where both have the same label, else max(0, margin − d)², d being
 * the distance of the two embeddings. Output [batch, width], labels [batch]. A pair weighs the product of its
 * rows' weights; it is right where d is on its own side of half the margin.
 */
export const contrastivePair =
  (margin: number): LossRule =>
  (ops, embeddings, weight) => {
    const shape = ops.shape(embeddings);
    demandShape(ops, embeddings, shape.length === 2 && shape[0]! >= 2, "embeddings [batch ≥ 2, width]");
    const [batch, width] = shape as [number, number];
    const label = labels(ops, "int64", [batch]);
    const off = ops.sub(
      ops.reshape(embeddings, [batch, 1, width]),
      ops.reshape(embeddings, [1, batch, width]),
    );
    const squared = ops.sum(ops.mul(off, off), [2]);
    const distance = ops.op("Sqrt", [ops.add(squared, ops.number(TINY, squared))]);
    const same = ops.op("Equal", [ops.reshape(label, [batch, 1]), ops.reshape(label, [1, batch])]);
    const short = ops.op("Relu", [ops.sub(ops.number(margin, distance), distance)]);
    const near = ops.op("Less", [distance, ops.number(margin / 2, distance)]);
    const right = ops.cast(ops.op("Equal", [same, near]), "float32");
    const others = othersOf(ops, weight, batch);
    return {
      loss: rowSum(ops, ops.mul(others, ops.where(same, squared, ops.mul(short, short)))),
      correct: rowSum(ops, ops.mul(others, right)),
      parts: rowSum(ops, others),
    };
  };

/** [batch, batch]: the weight of the row a row is paired with, 0 with itself. */
function othersOf(ops: Ops, weight: string, batch: number): string {
  const ids = ops.build.ints(range(batch));
  const itself = ops.op("Equal", [ops.reshape(ids, [batch, 1]), ops.reshape(ids, [1, batch])]);
  return ops.where(itself, ops.number(0, weight), ops.reshape(weight, [1, batch]));
}
