import type { OpSite } from "./op-site.ts";
import type { Tf, TfTensor } from "./tfjs.ts";

/**
 * With how many columns a memory first was the right operand of a product. It mirrors a table inside wasm: a
 * product is set up (XNNPACK's packed weights) once per memory and looked up by dataId alone, until it is
 * freed. Keyed by the same object, so an entry ends with its memory.
 */
const columnsOf = new WeakMap<object, number>();

/**
 * `a` times `b`, both 2-D and neither empty. A reshape (which is also how we transpose where only axes of
 * size 1 move) gives another shape to the same dataId; wasm would multiply by it with the set-up of the first
 * shape and read or write outside its memory. Whoever comes second in another shape is therefore copied:
 * 0.14 ms a million elements, little beside the packing that follows anyway. In one shape nothing is copied.
 */
export function matMul(site: OpSite, tf: Tf, [a, b]: readonly [TfTensor, TfTensor]): TfTensor {
  if (site.backend !== "wasm") return tf.matMul(a, b);
  const columns = b.shape[1]!;
  const first = columnsOf.get(b.dataId);
  if (first === undefined) columnsOf.set(b.dataId, columns);
  // One size is one memory's, so equal columns mean equal rows. Times 1 keeps NaN, infinities and -0.
  return tf.matMul(a, first === undefined || first === columns ? b : tf.mul(b, 1));
}
