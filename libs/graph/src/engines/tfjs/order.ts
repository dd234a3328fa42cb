import { sizeOf } from "../../ir.ts";
import type { Operator } from "./op-site.ts";
import type { Tf, TfTensor } from "./tfjs.ts";

/**
 * The k largest along an axis, or the smallest: the largest of what counts the other way round. Sorted
 * whether asked or not; among equals the lower index comes first, as in onnxruntime.
 */
export const TopK: Operator = (site, tf) => {
  const shape = site.shape(0);
  const axis = site.axis(site.int("axis", -1), shape.length);
  const out = site.shapeOut();
  const k = out[axis]!;
  const largest = site.int("largest", 1) !== 0;
  const type = site.typeOut();
  site.skip(1);
  if (sizeOf(out) === 0) return () => [tf.zeros(out, type), tf.zeros(out, "int32")];
  // The kernel knows the last axis alone.
  const perm = shape.map((_, at) => (at === axis ? shape.length - 1 : at === shape.length - 1 ? axis : at));
  const still = axis === shape.length - 1;
  const turn = (x: TfTensor) => (still ? x : tf.transpose(x, perm));
  return (x) => {
    const { values, indices } = tf.topk(turn(largest ? x : reversed(tf, x)), k, true);
    const picked = turn(values);
    return [largest ? picked : reversed(tf, picked), turn(indices)];
  };
};

/** The order turned around and, done twice, back: -x, or -1 - x for integers: the smallest fits too. */
function reversed(tf: Tf, x: TfTensor): TfTensor {
  return x.dtype === "int32" ? tf.sub(tf.scalar(-1, "int32"), x) : tf.neg(x);
}
