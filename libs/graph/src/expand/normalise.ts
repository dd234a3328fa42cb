import { axisOf, type Ops, range } from "../ops.ts";
import type { Site } from "../site.ts";
import { type Expansion, single } from "./rule.ts";

// Variances are those of the centred values: the mean of squares less the squared mean would cancel.

export type Moments = { readonly axes: readonly number[]; readonly epsilon: number };
export type Standardised = { readonly unit: string; readonly mean: string; readonly inverse: string };

/** (x − μ)/σ over some axes, with μ and 1/σ, which keep those axes with size 1. */
export function standardised(ops: Ops, x: string, { axes, epsilon }: Moments): Standardised {
  const mean = ops.mean(x, axes, true);
  const centred = ops.sub(x, mean);
  const inverse = inverseRoot(ops, ops.mean(ops.mul(centred, centred), axes, true), epsilon);
  return { unit: ops.mul(centred, inverse), mean, inverse };
}

/** 1/√(x + ε). */
function inverseRoot(ops: Ops, x: string, epsilon: number): string {
  return ops.op("Reciprocal", [ops.op("Sqrt", [ops.add(x, ops.number(epsilon, x))])]);
}

/** Axes from attribute `axis` on. */
function trailing(at: Site): readonly number[] {
  const rank = at.shape(0).length;
  return range(rank).slice(at.axis(at.int("axis", -1), rank));
}

/**
 * Where its mean or deviation is read as well and a gradient passes there; alone it has a rule of its own
 * (LayerNormalization, since version 17).
 */
export const LayerNormalization: Expansion = (at, ops) => {
  const moments = { axes: trailing(at), epsilon: at.float("epsilon", 1e-5) };
  const { unit, mean, inverse } = standardised(ops, at.input(0), moments);
  const scaled = ops.mul(unit, at.input(1));
  return [at.has(2) ? ops.add(scaled, at.input(2)) : scaled, mean, inverse];
};

/** x/√(mean x² + ε)·scale, and 1/√(mean x² + ε) as onnxruntime gives it (Zhang and Sennrich 2019). */
export function rootMeanSquare(ops: Ops, x: string, { axes, epsilon }: Moments): readonly [string, string] {
  const inverse = inverseRoot(ops, ops.mean(ops.mul(x, x), axes, true), epsilon);
  return [ops.mul(x, inverse), inverse];
}

export const RMSNormalization: Expansion = (at, ops) => {
  const moments = { axes: trailing(at), epsilon: at.float("epsilon", 1e-5) };
  const [unit, inverse] = rootMeanSquare(ops, at.input(0), moments);
  return [ops.mul(unit, at.input(1)), inverse];
};

/** onnxruntime's older name for it, which it writes in either domain. */
export const SimplifiedLayerNormalization = RMSNormalization;

/**
 * Groups of neighbouring channels, each as one lane (Wu and He 2018); scale and bias are per group until
 * version 21, per channel since.
 */
export const GroupNormalization = single((at, ops) => {
  const shape = at.shape(0);
  const [n, channels, ...image] = shape as [number, number, ...number[]];
  const groups = at.int("num_groups");
  if (groups < 1 || channels % groups !== 0)
    throw at.fault("bad-input", "attribute num_groups", {
      expected: `a divisor of ${channels}`,
      got: `${groups}`,
    });
  const pixels = image.reduce((product, size) => product * size, 1);
  const lanes = ops.reshape(at.input(0), [n, groups, (channels / groups) * pixels]);
  const { unit } = standardised(ops, lanes, { axes: [2], epsilon: at.float("epsilon", 1e-5) });
  const [scale, bias] = [at.input(1), at.input(2)];
  // With one channel per group the two readings are one.
  const perGroup = at.shape(1)[0] === groups;
  const [whole, vector] = perGroup
    ? [unit, [groups, 1]]
    : [ops.reshape(unit, shape), [channels, ...image.map(() => 1)]];
  const moved = ops.add(ops.mul(whole, ops.reshape(scale, vector)), ops.reshape(bias, vector));
  return ops.reshape(moved, shape);
});

/** (x − μ)/(σ + 1e-9), the constant being that of MeanVarianceNormalization-13's function body. */
export const MeanVarianceNormalization = single((at, ops) => {
  const rank = at.shape(0).length;
  const axes = at.ints("axes", [0, 2, 3]).map((axis) => at.axis(axis, rank));
  const centred = ops.sub(at.input(0), ops.mean(at.input(0), axes, true));
  const deviation = ops.op("Sqrt", [ops.mean(ops.mul(centred, centred), axes, true)]);
  return ops.div(centred, ops.add(deviation, ops.number(1e-9, centred)));
});

/** Lanes over their 1- or 2-norm; a lane of zeros stays. */
export const LpNormalization = single((at, ops) => {
  const x = at.input(0);
  const axes = [at.axis(at.int("axis", -1), at.shape(0).length)];
  const norm = ops.build.emit(at.int("p", 2) === 1 ? "ReduceL1" : "ReduceL2", [x], { axes, keepdims: 1 });
  const zero = ops.op("Equal", [norm, ops.number(0, x)]);
  return ops.div(x, ops.where(zero, ops.number(1, x), norm));
});

/**
 * x over a power of the squares of its neighbours in the channels (LRN, since version 1; Krizhevsky et al.
 * 2012, section 3.3). An even span reaches further forward.
 */
export const LRN = single((at, ops) => {
  const x = at.input(0);
  const [channels, span] = [at.shape(0)[1]!, at.int("size")];
  const edge = (size: number) => at.shape(0).map((_, axis) => (axis === 1 ? size : 0));
  const padded = ops.pad(ops.mul(x, x), {
    before: edge(Math.floor((span - 1) / 2)),
    after: edge(Math.ceil((span - 1) / 2)),
  });
  const shifted = (by: number) => ops.slice(padded, { axes: [1], starts: [by], ends: [by + channels] });
  const squares = range(span).map(shifted).reduce(ops.add);
  const spread = ops.scale(squares, at.float("alpha", 1e-4) / span);
  const base = ops.add(spread, ops.number(at.float("bias", 1), x));
  return ops.div(x, ops.op("Pow", [base, ops.number(at.float("beta", 0.75), x)]));
});

/** One at the first largest value along the axis; before version 13 of everything from the axis on. */
export const Hardmax = single((at, ops) => {
  const shape = at.shape(0);
  const old = at.opset < 13;
  const first = axisOf(at.int("axis", old ? 1 : -1), shape.length);
  const columns = shape.slice(first).reduce((product, size) => product * size, 1);
  const x = old ? ops.reshape(at.input(0), [rows(shape, first), columns]) : at.input(0);
  const [lanes, axis] = old ? [2, 1] : [shape.length, first];
  const best = ops.op("ArgMax", [x], { axis, keepdims: 1 });
  const size = old ? columns : shape[first]!;
  const places = ops.reshape(
    ops.build.ints(range(size)),
    range(lanes).map((i) => (i === axis ? size : 1)),
  );
  const hit = ops.op("Equal", [best, places]);
  return ops.reshape(ops.where(hit, ops.number(1, x), ops.number(0, x)), shape);
});

function rows(shape: readonly number[], end: number): number {
  return shape.slice(0, end).reduce((product, size) => product * size, 1);
}
