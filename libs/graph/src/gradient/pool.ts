import { type Ops, range } from "../ops.ts";
import { tensorOf } from "../tensor.ts";
import type { Adjoint, GradientRule } from "./rule.ts";
import { dilateAll, fit, padFor, places, reach, shifted, type Window, windowOf } from "./window.ts";

export const GlobalAveragePool: GradientRule = (site, ops) => [
  () => {
    const shape = site.shape(0);
    const count = shape.slice(2).reduce((product, size) => product * size, 1);
    return ops.expand(ops.scale(site.dy, 1 / count), shape);
  },
];

/** Equal maxima share dy evenly, as torch.amax does. */
export const GlobalMaxPool: GradientRule = (site, ops) => [
  () => {
    const mask = ops.op("Equal", [site.input(0), site.y]);
    const ones = ops.where(mask, ops.number(1, site.dy), ops.number(0, site.dy));
    const count = ops.sum(ones, range(site.shape(0).length).slice(2), true);
    return ops.gate(mask, ops.div(site.dy, count));
  },
];

/** Each output's share of dy goes to every input in its window. */
export const AveragePool: GradientRule = (site, ops) => [
  () => {
    const window = poolWindow(site, ops);
    const share = ops.mul(site.dy, shares(ops, site, window));
    return scatterWindows([site, ops], window, () => share);
  },
];

/**
 * The largest value of a window gets dy; of several the first in row-major order, as in torch. The first is
 * found by walking the kernel's places and skipping outputs that are already served.
 */
export const MaxPool: GradientRule = (site, ops) => [
  () => {
    const window = poolWindow(site, ops);
    const padded = padFor(ops, site.input(0), { window, value: LOWEST });
    let served: string | undefined;
    return scatterWindows([site, ops], window, (place) => {
      const equal = ops.op("Equal", [shifted(ops, padded, { window, place }), site.y]);
      const mine = served === undefined ? equal : ops.op("And", [equal, ops.op("Not", [served])]);
      served = served === undefined ? equal : ops.op("Or", [served, equal]);
      return ops.gate(mine, site.dy);
    });
  },
];

/** Padding for a maximum: the lowest finite float32, since some engines cannot pad with −inf. */
const LOWEST = -3.4028234663852886e38;

function poolWindow(site: Adjoint, ops: Ops): Window {
  return windowOf(site, site.ints("kernel_shape"), ops.shape(site.y).slice(2));
}

/** Σ over the kernel's places of that place's values, put back where the window stood: [N, C, …input]. */
function scatterWindows(
  [site, ops]: readonly [Adjoint, Ops],
  window: Window,
  at: (place: readonly number[]) => string,
): string {
  const { kernel, strides, dilations, before, input } = window;
  const total = places(site, kernel)
    .map((place) => {
      const wide = dilateAll(ops, at(place), strides);
      const lead = place.map((offset, axis) => offset * dilations[axis]!);
      const tail = lead.map((start, axis) => reach(window, axis) - start - ops.shape(wide)[axis + 2]!);
      return fit(ops, wide, { before: lead, after: tail });
    })
    .reduce(ops.add);
  const behind = input.map((size, axis) => size + before[axis]! - reach(window, axis));
  return fit(ops, total, { before: before.map((size) => -size), after: behind });
}

/** 1 / (number of values averaged) per output position, [1, 1, …output]: a constant. */
function shares(ops: Ops, site: Adjoint, window: Window): string {
  const padding = site.int("count_include_pad", 0) === 1;
  const counts = window.kernel.map((_, axis) => countsAlong(window, axis, padding));
  const values = counts.reduce<readonly number[]>(
    (found, along) => found.flatMap((product) => along.map((count) => product * count)),
    [1],
  );
  const shape = [1, 1, ...window.output];
  const fractions = values.map((count) => 1 / count);
  return ops.build.constant(tensorOf(site.dtype(0), shape, fractions));
}

/**
 * How many places of each window lie on the input (or, with `padding`, on the padded input) along an axis.
 */
function countsAlong(window: Window, axis: number, padding: boolean): readonly number[] {
  const [low, high] = padding
    ? [0, window.before[axis]! + window.input[axis]! + window.after[axis]!]
    : [window.before[axis]!, window.before[axis]! + window.input[axis]!];
  return range(window.output[axis]!).map((at) => {
    const positions = range(window.kernel[axis]!).map(
      (place) => at * window.strides[axis]! + place * window.dilations[axis]!,
    );
    return positions.filter((position) => position >= low && position < high).length;
  });
}
