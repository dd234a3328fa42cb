import type { Site } from "../site.ts";
import { demandSingle, demandSize, type InferRule, one, same } from "./rule.ts";

/**
 * Axes of a reduction, from the front; all of them where none are named, unless `noop_with_empty_axes`. They
 * are an input since version 13 (ReduceSum) or 18 (the others), an attribute before; `list` reads both.
 */
export function reducedAxes(at: Site): readonly number[] {
  const rank = at.shape(0).length;
  const named = at.list("axes", 1);
  if (named?.length) return distinctAxes(at, named, rank);
  return at.int("noop_with_empty_axes", 0) === 1 ? [] : at.shape(0).map((_, axis) => axis);
}

/** Axes from the front, none of them twice. */
export function distinctAxes(at: Site, named: readonly number[], rank: number): readonly number[] {
  const axes = named.map((axis) => at.axis(axis, rank));
  demandSize(at, "distinct axes", { expected: axes.length, got: new Set(axes).size });
  return axes;
}

/**
 * Reduced axes stay with size 1 where `keepdims` is 1, as it is by default, unlike in numpy. Like onnxruntime
 * we take any other number for 0.
 */
const reduction: InferRule = (at) => {
  const axes = new Set(reducedAxes(at));
  return one(at.dtype(0), without(at.shape(0), axes, at.int("keepdims", 1) === 1));
};

function without(shape: readonly number[], axes: ReadonlySet<number>, keep: boolean): number[] {
  return shape.flatMap((size, axis) => (axes.has(axis) ? (keep ? [1] : []) : [size]));
}

export const ReduceSum = reduction;
export const ReduceMean = reduction;
export const ReduceMax = reduction;
export const ReduceMin = reduction;
export const ReduceProd = reduction;
export const ReduceL1 = reduction;
export const ReduceL2 = reduction;
export const ReduceSumSquare = reduction;
export const ReduceLogSum = reduction;
export const ReduceLogSumExp = reduction;

/** One axis, by default the first (ArgMax, since version 13). */
const argument: InferRule = (at) => {
  const axis = at.axis(at.int("axis", 0), at.shape(0).length);
  if (at.shape(0)[axis] === 0) throw at.fault("bad-input", `size of axis ${axis}`, { expected: "1 or more" });
  return one("int64", without(at.shape(0), new Set([axis]), at.int("keepdims", 1) === 1));
};
export const ArgMax = argument;
export const ArgMin = argument;

/** The axis is an input, which may be computed (CumSum, since version 11). */
export function CumSum(at: Site) {
  demandSingle(at, 1);
  if (at.constant(1)) at.axis(at.numbers(1)[0]!, at.shape(0).length);
  return same(at);
}
