import { sizeOf } from "../../ir.ts";
import { levelsOf } from "../../quantised.ts";
import type { Operator, OpSite } from "./op-site.ts";
import { matMul } from "./product.ts";
import type { Tf, TfTensor } from "./tfjs.ts";

type Reduce = (tf: Tf, x: TfTensor, axes: number[]) => TfTensor;

/**
 * A reduction: axes as an attribute (older sets) or a constant input (newer), none meaning all unless
 * noop_with_empty_axes; the traced shape says what keepdims leaves. `empty` is the reduction of nothing,
 * which wasm leaves uninitialised.
 */
const reduction =
  (reduce: Reduce, empty: number): Operator =>
  (site, tf) => {
    const shape = site.shapeOut();
    const axes = axesOf(site);
    site.skip(1);
    const noop = axes.length === 0 && site.int("noop_with_empty_axes", 0) === 1;
    // Each element then is its own row: the squares and logarithms of a reduction still happen.
    if (noop) return (x) => reduce(tf, tf.reshape(x, [1, ...shape]), [0]);
    const all = axes.length === 0 ? site.shape(0).map((_, axis) => axis) : axes;
    const type = site.typeOut() as "float32" | "int32";
    if (sizeOf(shape) === 0) return () => tf.zeros(shape, type);
    if (sizeOf(site.shape(0)) === 0) {
      const nothing = within(site, empty);
      return () => tf.fill(shape, nothing, type);
    }
    return (x) =>
      tf.reshape(all.length === 0 ? reduce(tf, tf.reshape(x, [1]), [0]) : reduce(tf, x, all), shape);
  };

/** `value`, or what lies nearest to it in the input's type; of an int64 tfjs holds 32 bits only. */
function within(site: OpSite, value: number): number {
  const dtype = site.dtype(0);
  if (dtype.startsWith("float")) return value;
  if (dtype === "int64" && !Number.isFinite(value))
    throw site.fault("unsupported", "input 0", { expected: "elements, or fewer bits", got: "no int64" });
  const [low, high] = levelsOf(dtype) ?? [-(2 ** 31), 2 ** 31 - 1];
  return Math.min(Math.max(value, low), high);
}

function axesOf(site: OpSite): number[] {
  return (site.list("axes", 1) ?? []).map((axis) => site.axis(axis, site.rank(0)));
}

/** tfjs's mean of integers is a float; ONNX keeps the type and truncates. */
const mean: Reduce = (tf, x, axes) =>
  x.dtype === "int32" ? tf.cast(tf.mean(x, axes), "int32") : tf.mean(x, axes);

/** The greatest is taken out first, so that no exponential overflows; unless it is infinite itself. */
const logSumExp: Reduce = (tf, x, axes) => {
  const greatest = tf.max(x, axes, true);
  const finite = tf.where(tf.isFinite(greatest), greatest, tf.zerosLike(greatest));
  const sums = tf.sum(tf.exp(tf.sub(x, finite)), axes);
  return tf.add(tf.log(sums), tf.reshape(finite, sums.shape));
};

/**
 * On wasm a sum over leading axes (a bias's gradient) is 8 times faster as a row of ones times the rest than
 * as the kernel's transpose and sum.
 */
export const ReduceSum: Operator = (site, tf) => {
  const axes = axesOf(site);
  const leading = axes.length > 0 && axes.length < site.rank(0) && Math.max(...axes) === axes.length - 1;
  const quick = site.backend === "wasm" && leading && site.type(0) === "float32";
  const rows = sizeOf(site.shape(0).slice(0, axes.length));
  if (!quick || rows === 0 || sizeOf(site.shape(0)) === 0) return plainSum(site, tf);
  const shape = site.shapeOut();
  site.skip(1);
  const ones = site.keep(tf.ones([1, rows]));
  return (x) => tf.reshape(matMul(site, tf, [ones, tf.reshape(x, [rows, -1])]), shape);
};

const plainSum = reduction((tf, x, axes) => tf.sum(x, axes), 0);
export const ReduceMean = reduction(mean, Number.NaN);
export const ReduceMax = reduction((tf, x, axes) => tf.max(x, axes), -Infinity);
export const ReduceMin = reduction((tf, x, axes) => tf.min(x, axes), Infinity);
export const ReduceProd = reduction((tf, x, axes) => tf.prod(x, axes), 1);
export const ReduceL1 = reduction((tf, x, axes) => tf.sum(tf.abs(x), axes), 0);
export const ReduceL2 = reduction((tf, x, axes) => tf.sqrt(tf.sum(tf.square(x), axes)), 0);
export const ReduceSumSquare = reduction((tf, x, axes) => tf.sum(tf.mul(x, x), axes), 0);
export const ReduceLogSum = reduction((tf, x, axes) => tf.log(tf.sum(x, axes)), -Infinity);
export const ReduceLogSumExp = reduction(logSumExp, -Infinity);

/** The first of equals, or with select_last_index the last: then the axis is read backwards. */
const arg =
  (pick: Reduce): Operator =>
  (site, tf) => {
    const axis = site.axis(site.int("axis", 0), site.rank(0));
    const length = site.shape(0)[axis] ?? 1;
    const last = site.int("select_last_index", 0) !== 0;
    const shape = site.shapeOut();
    if (sizeOf(shape) === 0) return () => tf.zeros(shape, "int32");
    return (x) => {
      const found = pick(tf, last ? tf.reverse(x, axis) : x, [axis]);
      return tf.reshape(last ? tf.sub(tf.scalar(length - 1, "int32"), found) : found, shape);
    };
  };

export const ArgMax = arg((tf, x, axes) => tf.argMax(x, axes[0]!));
export const ArgMin = arg((tf, x, axes) => tf.argMin(x, axes[0]!));
