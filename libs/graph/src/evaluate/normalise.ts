import { type Static, sizeOf } from "../ir.ts";
import type { Site } from "../site.ts";
import { numbers } from "../tensor.ts";
import { around, filled, only, type Rule } from "./rule.ts";

/** Before version 13 everything from `axis` on is one softmax; since then it is that axis alone. */
function softmax(finish: (shifted: number, total: number) => number): Rule {
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

/** Over all axes from `axis` on; Scale and B broadcast to those (LayerNormalization, since version 17). */
export function LayerNormalization(at: Site, out: readonly Static[]) {
  const shape = at.shape(0);
  const axis = at.axis(at.int("axis", -1), shape.length);
  const { size, inner } = around(shape, axis);
  const length = size * inner;
  const x = numbers(at.need(0));
  const scale = numbers(at.need(1));
  const bias = at.has(2) ? numbers(at.need(2)) : [0];
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
    const k = i % length;
    return (x[i]! - means[lane]!) * inverses[lane]! * scale[k % scale.length]! + bias[k % bias.length]!;
  };
  return [filled(out[0]!, value), filled(out[1]!, (i) => means[i]!), filled(out[2]!, (i) => inverses[i]!)];
}

/** scale·(x − mean)/√(var + ε) + bias per channel, with the file's own statistics. */
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

/** As BatchNormalization, with the statistics of each plane by itself (InstanceNormalization, since version 6). */
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
