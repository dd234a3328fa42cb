import { sizeOf } from "../../ir.ts";
import type { TfType } from "./convert.ts";
import type { Tf, TfTensor } from "./tfjs.ts";

export const sameShape = (a: readonly number[], b: readonly number[]): boolean =>
  a.length === b.length && a.every((size, axis) => size === b[axis]);

/** The shape two shapes broadcast to, which they must. */
export function broadcastShape(a: readonly number[], b: readonly number[]): number[] {
  const rank = Math.max(a.length, b.length);
  return Array.from({ length: rank }, (_, axis) => {
    const [x, y] = [a[axis - rank + a.length] ?? 1, b[axis - rank + b.length] ?? 1];
    return x === 1 ? y : x;
  });
}

/** A tensor of one value; wasm has no bool fill, so a bool goes through int32. */
export function filled(
  tf: Tf,
  shape: readonly number[],
  { value, type }: { value: number; type: TfType },
): TfTensor {
  if (type === "bool") return tf.tensor(new Uint8Array(sizeOf(shape)).fill(value), [...shape], "bool");
  return tf.fill([...shape], value, type);
}

/** wasm's add, sub, mul, div and pad stop at this rank and then leave their output unwritten. */
export const WASM_RANK = 6;

/**
 * `x` broadcast to `shape`, which it must fit. Through x + 0: on wasm tile, which tfjs's own broadcastTo
 * uses, took 6 ms for 80,000 elements where this takes 0.1 ms. (-0 becomes 0, NaN and infinities stay.)
 */
export function expandTo(tf: Tf, x: TfTensor, shape: readonly number[]): TfTensor {
  if (sameShape(x.shape, shape)) return x;
  if (sizeOf(x.shape) === sizeOf(shape)) return tf.reshape(x, [...shape]);
  // As floats: wasm adds integers of different shapes a hundred times slower.
  if (x.dtype === "bool") return truth(tf, expandTo(tf, tf.cast(x, "float32"), shape));
  const { from, to } = merged(x.shape, shape);
  const short = tf.reshape(x, from);
  const wide =
    to.length <= WASM_RANK
      ? tf.add(short, tf.fill(to, 0, x.dtype as "float32" | "int32"))
      : tf.tile(
          short,
          to.map((size, axis) => (from[axis] === size ? 1 : size)),
        );
  return tf.reshape(wide, [...shape]);
}

/** The same broadcast in as few axes as it takes: neighbours that both stay, or both widen, become one. */
function merged(shape: readonly number[], target: readonly number[]): { from: number[]; to: number[] } {
  const from: number[] = [];
  const to: number[] = [];
  for (const [axis, size] of target.entries()) {
    if (size === 1) continue;
    const own = shape[axis - target.length + shape.length] ?? 1;
    const last = to.length - 1;
    if (last >= 0 && (from[last] === to[last]) === (own === size)) {
      from[last]! *= own;
      to[last]! *= size;
    } else {
      from.push(own);
      to.push(size);
    }
  }
  return { from, to };
}

/** Nonzero as bool, NaN too; tfjs's own cast to bool on wasm keeps the low byte of the number instead. */
export function truth(tf: Tf, x: TfTensor): TfTensor {
  return x.dtype === "bool" ? x : tf.notEqual(x, tf.scalar(0, x.dtype as "float32" | "int32"));
}

/** As int32 where it is bool, which most kernels on wasm lack. */
export function unbool(tf: Tf, x: TfTensor): TfTensor {
  return x.dtype === "bool" ? tf.cast(x, "int32") : x;
}

/**
 * tf.where for every type; all three of one shape. wasm's own reads and writes four bytes an element for
 * truth values too, past the ends of their memory.
 */
export function choose(tf: Tf, condition: TfTensor, [yes, no]: readonly [TfTensor, TfTensor]): TfTensor {
  const chosen = tf.where(condition, unbool(tf, yes), unbool(tf, no));
  return yes.dtype === "bool" ? truth(tf, chosen) : chosen;
}

/** Runs a kernel that lacks bool on int32 instead. */
export function viaInt(tf: Tf, x: TfTensor, kernel: (x: TfTensor) => TfTensor): TfTensor {
  if (x.dtype !== "bool") return kernel(x);
  return tf.cast(kernel(tf.cast(x, "int32")), "bool");
}

/** Truncation towards zero, as C and ONNX's integer division do. */
export function truncate(tf: Tf, x: TfTensor): TfTensor {
  return tf.mul(tf.sign(x), tf.floor(tf.abs(x)));
}
