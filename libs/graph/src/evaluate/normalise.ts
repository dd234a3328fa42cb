import { type Static, sizeOf } from "../ir.ts";
import type { Site } from "../site.ts";
import { numbers } from "../tensor.ts";
import { around, type EvaluateRule, filled, only, stretched } from "./rule.ts";

/**
 * Before version 13 everything from `axis` on is one softmax; since then it is that axis alone. Shifted by
 * the largest so that no exponential overflows. A lane of −∞ alone gives NaN (−∞ minus −∞), as in torch:
 * masks that hide a whole row rely on a Where behind it.
 */
function softmax(finish: (shifted: number, total: number) => number): EvaluateRule {
  return (at, out) => {
    const shape = at.shape(0);
    const old = at.opset < 13;
    const axis = at.axis(at.int("axis", old ? 1 : -1), Math.max(1, shape.length));
    const { size, inner } = around(shape, axis);
    const [length, step] = old ? [size * inner, 1] : [size, inner];
    const x = numbers(at.need(0));
    const values = new Float64Array(x.length);
    for (let lane = 0; lane < x.length / Math.max(1, length); lane++) {
      const start = Math.floor(lane / step) * length * step + (lane % step);
      const places = Array.from({ length }, (_, k) => start + k * step);
      const top = places.reduce((most, place) => Math.max(most, x[place]!), Number.NEGATIVE_INFINITY);
      const total = places.reduce((sum, place) => sum + Math.exp(x[place]! - top), 0);
      for (const place of places) values[place] = finish(x[place]! - top, total);
    }
    return [filled(only(out), (i) => values[i]!)];
  };
}

export const Softmax = softmax((shifted, total) => Math.exp(shifted) / total);
export const LogSoftmax = softmax((shifted, total) => shifted - Math.log(total));

/**
 * Over all axes from `axis` on; Scale and B broadcast to X (LayerNormalization, since version 17). The
 * variance is the population's, of the centred values: the mean of squares less the squared mean would
 * cancel.
 */
export function LayerNormalization(at: Site, out: readonly Static[]) {
  const shape = at.shape(0);
  const axis = at.axis(at.int("axis", -1), shape.length);
  const { size, inner } = around(shape, axis);
  const length = size * inner;
  const x = numbers(at.need(0));
  const scale = numbers(at.need(1));
  const scaleAt = stretched(at.shape(1), shape);
  const bias = at.has(2) ? numbers(at.need(2)) : [0];
  const biasAt = stretched(at.has(2) ? at.shape(2) : [], shape);
  const epsilon = at.float("epsilon", 1e-5);
  const means: number[] = [];
  const inverses: number[] = [];
  for (let start = 0; start < x.length; start += length) {
    const lane = x.slice(start, start + length);
    const mean = lane.reduce((a, b) => a + b, 0) / length;
    const variance = lane.reduce((a, b) => a + (b - mean) ** 2, 0) / length;
    means.push(mean);
    inverses.push(1 / Math.sqrt(variance + epsilon));
  }
  const value = (i: number) => {
    const lane = Math.floor(i / length);
    return (x[i]! - means[lane]!) * inverses[lane]! * scale[scaleAt[i]!]! + bias[biasAt[i]!]!;
  };
  return [filled(out[0]!, value), filled(out[1]!, (i) => means[i]!), filled(out[2]!, (i) => inverses[i]!)];
}

/**
 * scale·(x − mean)/√(var + ε) + bias per channel, with the file's own statistics (BatchNormalization, since
 * version 15). Channels are axis 1, whatever the rank; a vector per example has no further axis.
 */
export function BatchNormalization(at: Site, out: readonly Static[]) {
  const { size, inner } = around(at.shape(0), 1);
  const [x, scale, bias, mean, variance] = [0, 1, 2, 3, 4].map((index) => numbers(at.need(index)));
  const epsilon = at.float("epsilon", 1e-5);
  const value = (i: number) => {
    const c = Math.floor(i / inner) % size;
    return (scale![c]! * (x![i]! - mean![c]!)) / Math.sqrt(variance![c]! + epsilon) + bias![c]!;
  };
  return [filled(only(out), value)];
}

/**
 * As BatchNormalization, with the statistics of each plane by itself (InstanceNormalization, since
 * version 6).
 */
export function InstanceNormalization(at: Site, out: readonly Static[]) {
  const [, channels, ...image] = at.shape(0) as [number, number, ...number[]];
  const plane = sizeOf(image);
  const [x, scale, bias] = [0, 1, 2].map((index) => numbers(at.need(index)));
  const epsilon = at.float("epsilon", 1e-5);
  const y = new Float64Array(x!.length);
  for (let start = 0; start < y.length; start += plane) {
    const lane = x!.slice(start, start + plane);
    const mean = lane.reduce((a, b) => a + b, 0) / plane;
    const variance = lane.reduce((a, b) => a + (b - mean) ** 2, 0) / plane;
    const c = (start / plane) % channels;
    for (const [k, value] of lane.entries())
      y[start + k] = (scale![c]! * (value - mean)) / Math.sqrt(variance + epsilon) + bias![c]!;
  }
  return [filled(only(out), (i) => y[i]!)];
}

/** As LayerNormalization without a mean to subtract and without bias (RMSNormalization, since version 23). */
export function RMSNormalization(at: Site, out: readonly Static[]) {
  const axis = at.axis(at.int("axis", -1), at.shape(0).length);
  const { size, inner } = around(at.shape(0), axis);
  const length = size * inner;
  const [x, scale] = [numbers(at.need(0)), numbers(at.need(1))];
  const from = stretched(at.shape(1), at.shape(0));
  const epsilon = at.float("epsilon", 1e-5);
  const roots = Array.from({ length: x.length / length }, (_, lane) => {
    const squares = x
      .slice(lane * length, (lane + 1) * length)
      .reduce((sum, value) => sum + value * value, 0);
    return Math.sqrt(squares / length + epsilon);
  });
  return [filled(only(out), (i) => (x[i]! / roots[Math.floor(i / length)]!) * scale[from[i]!]!)];
}

/**
 * InstanceNormalization over groups of channels; scale and bias per channel (GroupNormalization, since
 * version 21; Wu and He 2018). Channels of a group are neighbours, so a group is one contiguous lane.
 */
export function GroupNormalization(at: Site, out: readonly Static[]) {
  const { size: channels, inner } = around(at.shape(0), 1);
  const groups = at.int("num_groups");
  const length = (channels / groups) * inner;
  const [x, scale, bias] = [0, 1, 2].map((index) => numbers(at.need(index)));
  const epsilon = at.float("epsilon", 1e-5);
  const lanes = Array.from({ length: x!.length / length }, (_, lane) => {
    const values = x!.slice(lane * length, (lane + 1) * length);
    const mean = values.reduce((a, b) => a + b, 0) / length;
    const variance = values.reduce((a, b) => a + (b - mean) ** 2, 0) / length;
    return { mean, root: Math.sqrt(variance + epsilon) };
  });
  const value = (i: number) => {
    const { mean, root } = lanes[Math.floor(i / length)]!;
    const c = Math.floor(i / inner) % channels;
    // Until version 21 there was one scale and bias per group.
    const at_ = scale!.length === groups ? Math.floor((c * groups) / channels) : c;
    return ((x![i]! - mean) / root) * scale![at_]! + bias![at_]!;
  };
  return [filled(only(out), value)];
}

/**
 * Each lane along the axis divided by its 1- or 2-norm; a lane of zeros stays (LpNormalization-1 is silent).
 */
export function LpNormalization(at: Site, out: readonly Static[]) {
  const { size, inner } = around(at.shape(0), at.axis(at.int("axis", -1), at.shape(0).length));
  const p = at.int("p", 2);
  const x = numbers(at.need(0));
  const value = (i: number) => {
    const start = Math.floor(i / (size * inner)) * size * inner + (i % inner);
    const lane = Array.from({ length: size }, (_, k) => x[start + k * inner]!);
    const norm = lane.reduce((sum, v) => sum + Math.abs(v) ** p, 0) ** (1 / p);
    return norm === 0 ? 0 : x[i]! / norm;
  };
  return [filled(only(out), value)];
}

/**
 * One at the first largest element along the axis (before version 13, of everything from the axis on),
 * else zero.
 */
export function Hardmax(at: Site, out: readonly Static[]) {
  const old = at.opset < 13;
  const { size, inner } = around(at.shape(0), at.axis(at.int("axis", old ? 1 : -1), at.shape(0).length));
  const [length, step] = old ? [size * inner, 1] : [size, inner];
  const x = numbers(at.need(0));
  const value = (i: number) => {
    const start = Math.floor(i / (length * step)) * length * step + (i % step);
    const lane = Array.from({ length }, (_, k) => x[start + k * step]!);
    return Math.floor((i - start) / step) === lane.indexOf(lane.reduce((a, b) => Math.max(a, b))) ? 1 : 0;
  };
  return [filled(only(out), value)];
}

/**
 * Each element over a power of the squares of its neighbours in the channels (LRN, since version 1;
 * Krizhevsky et al. 2012, section 3.3, though alpha is divided by the span here). An even span reaches
 * further forward.
 */
export function LRN(at: Site, out: readonly Static[]) {
  const { size: channels, inner } = around(at.shape(0), 1);
  const span = at.int("size");
  const [alpha, beta, bias] = [at.float("alpha", 1e-4), at.float("beta", 0.75), at.float("bias", 1)];
  const x = numbers(at.need(0));
  const value = (i: number) => {
    const c = Math.floor(i / inner) % channels;
    const [from, to] = [c - Math.floor((span - 1) / 2), c + Math.ceil((span - 1) / 2)];
    let squares = 0;
    for (let k = Math.max(0, from); k <= Math.min(channels - 1, to); k++)
      squares += x[i + (k - c) * inner]! ** 2;
    return x[i]! / (bias + (alpha / span) * squares) ** beta;
  };
  return [filled(only(out), value)];
}
