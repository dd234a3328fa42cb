import { type Ops, range } from "../../ops.ts";
import type { Site } from "../../site.ts";
import { type Moments, rootMeanSquare, standardised } from "../normalise.ts";
import type { Expansion } from "../rule.ts";

export { SimplifiedLayerNormalization } from "../normalise.ts";

// Inputs and outputs as onnxruntime's ContribOperators.md lists them.

/** Normalised sum of input, skip and bias; the sum itself is the fourth output, read by the next layer. */
export const SkipLayerNormalization: Expansion = (at, ops) => {
  const sum = skipped(at, ops, 4);
  const { unit, mean, inverse } = standardised(ops, sum, lastAxis(at, ops, sum));
  const scaled = ops.mul(unit, at.input(2));
  return [at.has(3) ? ops.add(scaled, at.input(3)) : scaled, mean, inverse, sum];
};

/** The same by the root mean square, which has no mean to give out and no beta. */
export const SkipSimplifiedLayerNormalization: Expansion = (at, ops) => {
  const sum = skipped(at, ops, 3);
  const [unit, inverse] = rootMeanSquare(ops, sum, lastAxis(at, ops, sum));
  const zeros = () => ops.zeros(ops.shape(inverse), inverse);
  return [ops.mul(unit, at.input(2)), at.wants(1) ? zeros() : undefined, inverse, sum];
};

function skipped(at: Site, ops: Ops, bias: number): string {
  const sum = ops.add(at.input(0), at.input(1));
  return at.has(bias) ? ops.add(sum, at.input(bias)) : sum;
}

function lastAxis(at: Site, ops: Ops, x: string): Moments {
  return { axes: [ops.shape(x).length - 1], epsilon: at.float("epsilon", 1e-12) };
}

/**
 * BERT's first layer: rows of the word, position and segment tables, added and normalised. The second output
 * counts the mask's ones, or is 0 without a mask; the third is the sum before it is normalised.
 */
export const EmbedLayerNormalization: Expansion = (at, ops) => {
  const word = ops.op("Gather", [at.input(2), at.input(0)], { axis: 0 });
  const placed = ops.add(word, positions(at, ops));
  const sum = at.has(1) ? ops.add(placed, ops.op("Gather", [at.input(4), at.input(1)], { axis: 0 })) : placed;
  const { unit } = standardised(ops, sum, lastAxis(at, ops, sum));
  const y = ops.add(ops.mul(unit, at.input(5)), at.input(6));
  return [y, at.wants(1) ? counts(at, ops) : undefined, sum];
};

/** Rows of the position table: those asked for, else the first as many as the sequence is long. */
function positions(at: Site, ops: Ops): string {
  if (at.has(8)) return ops.op("Gather", [at.input(3), at.input(8)], { axis: 0 });
  return ops.slice(at.input(3), { axes: [0], starts: [0], ends: [at.shape(0)[1]!] });
}

/** As int32 per example; summed as floats, which every engine sums, exact far beyond any sequence. */
function counts(at: Site, ops: Ops): string {
  if (at.has(7)) return ops.cast(ops.sum(ops.cast(at.input(7), "float32"), [1]), "int32");
  const zeros = ops.build.constant({
    ...{ dtype: "int32", shape: [at.shape(0)[0]!] },
    data: Int32Array.from(range(at.shape(0)[0]!), () => 0),
  });
  return zeros;
}
