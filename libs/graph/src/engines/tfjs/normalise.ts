import { sizeOf } from "../../ir.ts";
import type { Operator, OpSite } from "./op-site.ts";
import type { Kernel, Tf, TfTensor } from "./tfjs.ts";

/**
 * Softmax over one axis from operator set 13; before, over everything from `axis` on, taken as one row.
 * tfjs's kernels want the axis last.
 */
const overAxis =
  (kernel: (tf: Tf, x: TfTensor) => TfTensor): Operator =>
  (site, tf) => {
    const shape = site.shapeOut();
    const rank = shape.length;
    const single = site.opset >= 13;
    const axis = rank === 0 ? 0 : site.axis(site.int("axis", single ? -1 : 1), rank);
    if (sizeOf(shape) === 0) return (x) => x;
    if (!single || axis >= rank - 1) {
      const columns = single ? (shape[axis] ?? 1) : sizeOf(shape.slice(axis));
      return (x) => tf.reshape(kernel(tf, tf.reshape(x, [sizeOf(shape) / columns, columns])), shape);
    }
    const perm = shape.map((_, at) => (at === axis ? rank - 1 : at === rank - 1 ? axis : at));
    return (x) => {
      const turned = tf.transpose(x, perm);
      const rows = tf.reshape(turned, [-1, shape[axis]!]);
      return tf.transpose(tf.reshape(kernel(tf, rows), turned.shape), perm);
    };
  };

export const Softmax = overAxis((tf, x) => tf.softmax(x));
export const LogSoftmax = overAxis((tf, x) => tf.logSoftmax(x));

/** Outputs: the normalised input, and where asked the mean and one over the deviation. */
export const LayerNormalization: Operator = (site, tf) => {
  const first = site.axis(site.int("axis", -1), site.rank(0));
  const axes = site.shape(0).flatMap((_, axis) => (axis >= first ? [axis] : []));
  const epsilon = site.float("epsilon", 1e-5);
  if (sizeOf(site.shape(0)) === 0) return ofNothing(site, tf);
  return (x, scale, bias) => {
    const mean = tf.mean(x, axes, true);
    const centred = tf.sub(x, mean);
    const inverse = tf.rsqrt(tf.add(tf.mean(tf.square(centred), axes, true), epsilon));
    const scaled = tf.mul(tf.mul(centred, inverse), scale);
    return [bias ? tf.add(scaled, bias) : scaled, mean, inverse].slice(0, site.node.outputs.length);
  };
};

/** The statistics of no values, which wasm would leave unwritten. */
function ofNothing(site: OpSite, tf: Tf): Kernel {
  const shapes = site.node.outputs.map((_, index) => (site.wants(index) ? site.shapeOut(index) : []));
  return () => shapes.map((shape) => tf.fill(shape, Number.NaN, "float32"));
}

/** x / rms(x) · scale. */
export const RMSNormalization: Operator = (site, tf) => {
  const first = site.axis(site.int("axis", -1), site.rank(0));
  const axes = site.shape(0).flatMap((_, axis) => (axis >= first ? [axis] : []));
  const epsilon = site.float("epsilon", 1e-5);
  return (x, scale) => tf.mul(tf.mul(x, tf.rsqrt(tf.add(tf.mean(tf.square(x), axes, true), epsilon))), scale);
};

/** Inference: y = x·γ/√(σ²+ε) + (β − μ·γ/√(σ²+ε)), per channel (axis 1). */
export const BatchNormalization: Operator = (site, tf) => {
  if (site.int("training_mode", 0) !== 0 || site.wants(1))
    throw site.fault("unsupported", "attribute training_mode", {
      expected: "inference (0)",
      got: "training",
      todo: "Export the model in evaluation mode",
    });
  const epsilon = site.float("epsilon", 1e-5);
  const shape = perChannel(site);
  return ((x, scale, bias, mean, variance) => {
    const slope = tf.mul(scale, tf.rsqrt(tf.add(variance, epsilon)));
    const shift = tf.sub(bias, tf.mul(mean, slope));
    return tf.add(tf.mul(x, tf.reshape(slope, shape)), tf.reshape(shift, shape));
  }) as Kernel;
};

const perChannel = (site: OpSite): number[] =>
  site.shape(0).length < 2 ? [-1] : site.shape(0).map((size, axis) => (axis === 1 ? size : 1));

export const InstanceNormalization: Operator = (site, tf) => {
  const axes = site.shape(0).flatMap((_, axis) => (axis >= 2 ? [axis] : []));
  const epsilon = site.float("epsilon", 1e-5);
  const shape = perChannel(site);
  return (x, scale, bias) => {
    const centred = tf.sub(x, tf.mean(x, axes, true));
    const inverse = tf.rsqrt(tf.add(tf.mean(tf.square(centred), axes, true), epsilon));
    const scaled = tf.mul(tf.mul(centred, inverse), tf.reshape(scale, shape));
    return tf.add(scaled, tf.reshape(bias, shape));
  };
};

/** The identity, tracing having refused what drops something; the mask, where asked, is all true. */
export const Dropout: Operator = (site, tf) => {
  const shape = site.shapeOut();
  site.skip(1, 2);
  const mask = site.wants(1)
    ? site.keep(tf.tensor(new Uint8Array(sizeOf(shape)).fill(1), shape, "bool"))
    : undefined;
  return (x) => (mask ? [x, tf.clone(mask)] : x);
};
