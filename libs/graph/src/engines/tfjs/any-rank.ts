import { broadcastShape, expandTo, WASM_RANK } from "./broadcast.ts";
import type { Tf, TfTensor } from "./tfjs.ts";

type Binary = (a: TfTensor | number, b: TfTensor | number) => TfTensor;

/**
 * tfjs with sums, differences, products and quotients of any rank. wasm's own, beyond its highest rank, print
 * a line and leave their output unwritten; here operands are then widened and flattened first. Functions that
 * tfjs makes out of these (logSoftmax, logSumExp) still call its own: whoever uses them keeps ranks low.
 */
export function anyRank(tf: Tf): Tf {
  const safe = (plain: Binary) => (a: TfTensor | number, b: TfTensor | number) => {
    const [left, right] = [shapeOf(a), shapeOf(b)];
    if (Math.max(left.length, right.length) <= WASM_RANK) return plain(a, b);
    const shape = broadcastShape(left, right);
    const flat = (x: TfTensor | number) =>
      typeof x === "number" || x.size === 1 ? x : tf.reshape(expandTo(tf, x, shape), [-1]);
    return tf.reshape(plain(flat(a), flat(b)), shape);
  };
  return {
    ...tf,
    add: safe(tf.add as Binary) as Tf["add"],
    sub: safe(tf.sub as Binary) as Tf["sub"],
    mul: safe(tf.mul as Binary) as Tf["mul"],
    div: safe(tf.div as Binary) as Tf["div"],
  };
}

const shapeOf = (x: TfTensor | number): readonly number[] => (typeof x === "number" ? [] : x.shape);
