import { reducedAxes } from "../infer/reduce.ts";
import { type DType, type Static, sizeOf } from "../ir.ts";
import type { Site } from "../site.ts";
import { numbers, stridesOf } from "../tensor.ts";
import { around, type EvaluateRule, elements, filled, greater, lesser, only, positions } from "./rule.ts";

/**
 * The groups of positions that a reduction puts together, one per element of its output. Every group has the
 * same members relative to its start, so two lists describe them all.
 */
function groups(at: Site): { starts: Float64Array; members: Float64Array } {
  const shape = at.shape(0);
  const strides = stridesOf(shape);
  const axes = new Set(reducedAxes(at));
  const kept = shape.map((size, axis) => (axes.has(axis) ? 1 : size));
  const gone = shape.map((size, axis) => (axes.has(axis) ? size : 1));
  return { starts: positions(kept, strides), members: positions(gone, strides) };
}

/** Applies a function of all of a group's values, in doubles. */
function reduction(onNumbers: (values: readonly number[]) => number): EvaluateRule {
  return (at, out) => {
    const { starts, members } = groups(at);
    const x = numbers(at.need(0));
    const value = (i: number) => onNumbers(Array.from(members, (member) => x[starts[i]! + member]!));
    return [filled(only(out), value)];
  };
}

/**
 * As `reduction`, but in bigints where the tensor is int64: ReduceProd of a shape is how exporters count
 * elements, and ReduceMax of one how they pad.
 */
function exact(
  onNumbers: (a: number, b: number) => number,
  onBigints: (a: bigint, b: bigint) => bigint,
): EvaluateRule {
  return (at, out) => {
    const { starts, members } = groups(at);
    if (members.length === 0) return [filled(only(out), () => nothing(at))];
    const x = elements(at.need(0));
    if (!(x instanceof BigInt64Array)) return reduction((values) => values.reduce(onNumbers))(at, out);
    const value = (i: number) => Array.from(members, (member) => x[starts[i]! + member]!).reduce(onBigints);
    return [filled(only(out), value)];
  };
}

/**
 * What a reduction over no elements gives: the neutral element (ReduceSum and its kin, since version 20).
 * Integers have no infinity; there the standard names the type's least and largest value.
 */
function nothing(at: Site): number | bigint {
  const [least, most] = EXTREMES[at.dtype(0)] ?? [Number.NEGATIVE_INFINITY, Number.POSITIVE_INFINITY];
  if (at.node.op === "ReduceMax") return least;
  if (at.node.op === "ReduceMin") return most;
  return at.node.op === "ReduceProd" ? 1 : 0;
}

const EXTREMES: Partial<Record<DType, readonly [number | bigint, number | bigint]>> = {
  int64: [-(2n ** 63n), 2n ** 63n - 1n],
  int32: [-(2 ** 31), 2 ** 31 - 1],
  int8: [-128, 127],
  uint8: [0, 255],
};

const sum = (values: readonly number[]) => values.reduce((a, b) => a + b, 0);

export const ReduceSum = exact(
  (a, b) => a + b,
  (a, b) => a + b,
);
export const ReduceProd = exact(
  (a, b) => a * b,
  (a, b) => BigInt.asIntN(64, a * b),
);
export const ReduceMax = exact((a, b) => Math.max(a, b), greater);
export const ReduceMin = exact((a, b) => Math.min(a, b), lesser);
export const ReduceMean = reduction((values) => sum(values) / values.length);
export const ReduceL1 = reduction((values) => sum(values.map(Math.abs)));
export const ReduceL2 = reduction((values) => Math.sqrt(sum(values.map((x) => x * x))));
export const ReduceSumSquare = reduction((values) => sum(values.map((x) => x * x)));
export const ReduceLogSum = reduction((values) => Math.log(sum(values)));
// Shifted by the largest, as everyone does, lest e^x overflows.
export const ReduceLogSumExp = reduction((values) => {
  const top = values.reduce((a, b) => Math.max(a, b), Number.NEGATIVE_INFINITY);
  // ∞ − ∞ is no number; of nothing, or of zeros alone, it is log 0, and log ∞ where one of them is.
  if (!Number.isFinite(top)) return top;
  return top + Math.log(sum(values.map((x) => Math.exp(x - top))));
});

/**
 * The place of the best value along an axis; the first on a tie unless `select_last_index` (since version
 * 12).
 */
function argument(better: (a: number | bigint, b: number | bigint) => boolean): EvaluateRule {
  return (at, out) => {
    const axis = at.axis(at.int("axis", 0), at.shape(0).length);
    const { size, inner } = around(at.shape(0), axis);
    const last = at.int("select_last_index", 0) !== 0;
    const x = elements(at.need(0));
    const place = (i: number) => {
      const start = Math.floor(i / inner) * size * inner + (i % inner);
      let best = 0;
      for (let k = 1; k < size; k++) {
        const [now, held] = [x[start + k * inner]!, x[start + best * inner]!];
        if (better(now, held) || (last && now === held)) best = k;
      }
      return best;
    };
    return [filled(only(out), place)];
  };
}

export const ArgMax = argument((a, b) => a > b);
export const ArgMin = argument((a, b) => a < b);

/**
 * Running sums; `exclusive` leaves out the element itself, `reverse` runs from the end (CumSum, since version
 * 14). Position ids come from it (a running sum of a mask), hence exact in int64.
 */
export function CumSum(at: Site, out: readonly Static[]) {
  const shape = at.shape(0);
  const axis = at.axis(at.numbers(1)[0]!, shape.length);
  const { outer, size, inner } = around(shape, axis);
  const [exclusive, reverse] = [at.int("exclusive", 0), at.int("reverse", 0)];
  const x = elements(at.need(0));
  const sums: (number | bigint)[] = new Array(sizeOf(shape));
  for (let lane = 0; lane < outer * inner; lane++) {
    const start = Math.floor(lane / inner) * size * inner + (lane % inner);
    let sum: number | bigint = x instanceof BigInt64Array ? 0n : 0;
    for (let k = 0; k < size; k++) {
      const position = start + (reverse ? size - 1 - k : k) * inner;
      const next: number | bigint = plus(sum, x[position]!);
      sums[position] = exclusive ? sum : next;
      sum = next;
    }
  }
  return [filled(only(out), (i) => sums[i]!)];
}

function plus(a: number | bigint, b: number | bigint): number | bigint {
  return typeof a === "bigint" && typeof b === "bigint" ? a + b : Number(a) + Number(b);
}
