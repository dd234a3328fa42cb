import { axisOf, type Ops, range } from "../ops.ts";
import type { GradientRule } from "./rule.ts";

/** Whatever only renames positions: the gradient takes x's shape again. Shape inputs have no gradient. */
const reshaped: GradientRule = (site, ops) => [() => ops.reshape(site.dy, site.shape(0))];
export const Reshape: GradientRule = reshaped;
export const Flatten: GradientRule = reshaped;
export const Squeeze: GradientRule = reshaped;
export const Unsqueeze: GradientRule = reshaped;

const passed: GradientRule = ({ dy }) => [() => dy];
export const Identity: GradientRule = passed;
/** In inference, Dropout is the identity; trace has refused training mode. */
export const Dropout: GradientRule = passed;

export const Expand: GradientRule = (site, ops) => [() => ops.unbroadcast(site.dy, site.shape(0))];

export const Transpose: GradientRule = (site, ops) => [
  () => {
    const rank = site.shape(0).length;
    const order = site.ints("perm", range(rank).toReversed());
    return ops.transpose(
      site.dy,
      range(rank).map((axis) => order.indexOf(axis)),
    );
  },
];

/** Keeps a triangle: so does its gradient. */
export const Trilu: GradientRule = (site, ops) => [
  () => {
    const inputs = site.has(1) ? [site.dy, site.input(1)] : [site.dy];
    return ops.op("Trilu", inputs, { upper: site.int("upper", 1) });
  },
];

/** y_i sums x up to i, so dx_i sums dy from i on: the other way along the axis. */
export const CumSum: GradientRule = (site, ops) => [
  () => {
    const reverse = 1 - site.int("reverse", 0);
    return ops.op("CumSum", [site.dy, site.input(1)], { reverse, exclusive: site.int("exclusive", 0) });
  },
];

export const Concat: GradientRule = (site, ops) => {
  const axis = site.axis(site.int("axis", 0), ops.shape(site.y).length);
  let end = 0;
  return site.node.inputs.map((x) => {
    const start = end;
    end += ops.shape(x)[axis]!;
    const range = { axes: [axis], starts: [start], ends: [end] };
    return () => ops.slice(site.dy, range);
  });
};

/** Parts whose gradient is absent count as zeros. */
export const Split: GradientRule = (site, ops) => [
  () => {
    const axis = site.axis(site.int("axis", 0), site.shape(0).length);
    const parts = site.node.outputs.map((y, at) => site.grads[at] ?? ops.zeros(ops.shape(y), site.input(0)));
    return parts.length === 1 ? parts[0]! : ops.op("Concat", parts, { axis });
  },
];

export const Tile: GradientRule = (site, ops) => [
  () => {
    const shape = site.shape(0);
    const total = ops.shape(site.y);
    // [n·k] is k copies of [n]: split each axis in two and sum over the copies.
    const split = shape.flatMap((size, axis) => [total[axis]! / Math.max(size, 1), size]);
    return ops.reshape(
      ops.sum(
        ops.reshape(site.dy, split),
        range(shape.length).map((axis) => 2 * axis),
      ),
      shape,
    );
  },
];

/** Blocks of channels were laid out in space, in either of two orders: they are gathered up again. */
export const DepthToSpace: GradientRule = (site, ops) => [
  () => {
    const [batch, channels, height, width] = site.shape(0) as [number, number, number, number];
    const block = site.int("blocksize");
    const split = ops.reshape(site.dy, [batch, channels / block ** 2, height, block, width, block]);
    const columnFirst = site.string("mode", "DCR") === "CRD";
    const turned = ops.transpose(split, columnFirst ? [0, 1, 3, 5, 2, 4] : [0, 3, 5, 1, 2, 4]);
    return ops.reshape(turned, site.shape(0));
  },
];

/** The other way round: DepthToSpace in its first order undoes it. */
export const SpaceToDepth: GradientRule = (site, ops) => [
  () => ops.op("DepthToSpace", [site.dy], { blocksize: site.int("blocksize") }),
];

export const Slice: GradientRule = (site, ops) => [
  () => {
    const shape = site.shape(0);
    const given = (index: number, name: string) => site.list(name, index);
    const starts = given(1, "starts")!;
    const ends = given(2, "ends")!;
    const axes = (given(3, "axes") ?? range(starts.length)).map((axis) => axisOf(axis, shape.length));
    const steps = (site.has(4) ? given(4, "steps") : undefined) ?? axes.map(() => 1);
    return axes.reduce((dy, axis, at) => {
      const cut = { axis, size: shape[axis]!, start: starts[at]!, end: ends[at]!, step: steps[at]! };
      return unslice(ops, dy, cut);
    }, site.dy);
  },
];

type Cut = { axis: number; size: number; start: number; end: number; step: number };

/** Puts the values of a slice back at start, start + step, … of an axis of `size`, zeros between. */
function unslice(ops: Ops, dy: string, { axis, size, start, step }: Cut): string {
  const rank = ops.shape(dy).length;
  const count = ops.shape(dy)[axis]!;
  if (count === 0)
    return ops.zeros(
      ops.shape(dy).map((d, at) => (at === axis ? size : d)),
      dy,
    );
  // Slice-13: out-of-range bounds clamp, to size − 1 when walking backwards.
  const from = start < 0 ? Math.max(start + size, 0) : Math.min(start, step > 0 ? size : size - 1);
  const first = step > 0 ? from : from + (count - 1) * step;
  const forward = step > 0 ? dy : reverse(ops, dy, axis);
  const spread = dilate(ops, forward, { axis, step: Math.abs(step) });
  const edge = (value: number) => range(rank).map((at) => (at === axis ? value : 0));
  return ops.pad(spread, { before: edge(first), after: edge(size - first - ops.shape(spread)[axis]!) });
}

/** x backwards along one axis, by a constant index: engines differ in how well they walk backwards. */
export function reverse(ops: Ops, x: string, axis: number): string {
  const count = ops.shape(x)[axis]!;
  return count < 2 ? x : ops.op("Gather", [x, ops.build.ints(range(count).toReversed())], { axis });
}

/** step − 1 zeros between the values of an axis: n values become (n − 1)·step + 1. */
export function dilate(ops: Ops, x: string, { axis, step }: { axis: number; step: number }): string {
  const shape = ops.shape(x);
  const count = shape[axis]!;
  if (step === 1 || count < 2) return x;
  const outer = shape.slice(0, axis).reduce((product, size) => product * size, 1);
  const inner = shape.slice(axis + 1).reduce((product, size) => product * size, 1);
  // As [outer, n, inner·1] → [outer, n, inner·step]: rank 3 is within every engine's reach.
  const wide = ops.pad(ops.reshape(x, [outer, count, inner]), {
    before: [0, 0, 0],
    after: [0, 0, inner * (step - 1)],
  });
  const whole = ops.reshape(wide, [...shape.slice(0, axis), count * step, ...shape.slice(axis + 1)]);
  return ops.slice(whole, { axes: [axis], starts: [0], ends: [(count - 1) * step + 1] });
}
