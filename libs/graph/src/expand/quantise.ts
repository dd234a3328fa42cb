import * as infer from "../infer/quantise.ts";
import { type DType, sizeOf } from "../ir.ts";
import { type Ops, range } from "../ops.ts";
import { levelsOf, spreadOf } from "../quantised.ts";
import type { Site } from "../site.ts";
import { numbers, numeric } from "../tensor.ts";
import { convAttributes } from "./parts.ts";
import { type Expansion, single } from "./rule.ts";

// Levels are small integers, which float32 holds exactly, so all but sums of products is exact in floats.

/** (x − zero)·scale. */
export const DequantizeLinear = single((at, ops) => {
  const scale = spread(at, ops, 1);
  const float = ops.cast(at.input(0), at.dtype(1));
  const centred = at.has(2) ? ops.sub(float, spread(at, ops, 2)) : float;
  return ops.cast(ops.mul(centred, scale), infer.DequantizeLinear(at)[0]!.dtype);
});

/** saturate(round(x / scale) + zero), ties to even (QuantizeLinear, since version 10). */
export const QuantizeLinear = single((at, ops) => {
  const { dtype } = infer.QuantizeLinear(at)[0]!;
  const level = ops.op("Round", [ops.div(ops.cast(at.input(0), at.dtype(1)), spread(at, ops, 1))]);
  return saturated(ops, at.has(2) ? ops.add(level, spread(at, ops, 2)) : level, dtype);
});

/**
 * The least and the greatest value decide the scale; both ranges hold zero. A tensor of zeros has scale 1,
 * as onnxruntime has it (the standard's text divides by zero).
 */
export const DynamicQuantizeLinear: Expansion = (at, ops) => {
  const x = at.input(0);
  const axes = range(at.shape(0).length);
  const zero = ops.number(0, x);
  const extreme = (name: string) => ops.op(name, [ops.op(`Reduce${name}`, [x], { axes, keepdims: 0 }), zero]);
  const [low, high] = [extreme("Min"), extreme("Max")];
  const flat = ops.op("Equal", [low, high]);
  const scale = ops.where(flat, ops.number(1, x), ops.div(ops.sub(high, low), ops.number(255, x)));
  const point = saturated(ops, ops.op("Round", [ops.op("Neg", [ops.div(low, scale)])]), "uint8");
  return [ops.op("QuantizeLinear", [x, scale, point]), scale, point];
};

/** The product of the operands less their zero points, summed exactly. */
export const MatMulInteger = single((at, ops) => {
  const [a, b] = factors(at, ops);
  const [rankA, rankB] = [at.shape(0).length, at.shape(1).length];
  const columns = rankB === 1 ? 1 : at.shape(1).at(-1)!;
  const block = columns * at.shape(0).at(-1)!;
  const axis = Math.max(0, rankB - 2);
  const sumOf = (i: number) => Math.floor(i / block) * columns + (i % columns);
  const cuts = exactCuts(at, { axis, each: 1, sumOf });
  const product = (cut: Cut) =>
    ops.op("MatMul", [along(ops, a, { axis: rankA - 1, cut }), along(ops, b, { axis, cut })]);
  return cuts.map((cut) => ops.cast(product(cut), "int32")).reduce(ops.add);
});

/** MatMulInteger's operands in float, less their zero points: one, or one per row of A and column of B. */
export function factors(at: Site, ops: Ops): readonly [string, string] {
  const rows = at.has(2) ? perRow(ops, at.input(2)) : undefined;
  return [centred(ops, at.input(0), rows), centred(ops, at.input(1), optional(at, 3))];
}

/** A zero point or scale as one value or as a column, `[M]` being one per row. */
export function perRow(ops: Ops, x: string): string {
  const shape = ops.shape(x);
  if (sizeOf(shape) === 1) return ops.reshape(x, []);
  return shape.length === 1 ? ops.reshape(x, [...shape, 1]) : x;
}

/** The same of a right operand; one value has no axes of its own, as a product of vectors has none. */
export function perColumn(ops: Ops, x: string): string {
  return sizeOf(ops.shape(x)) === 1 ? ops.reshape(x, []) : x;
}

/** The convolution of the operands less their zero points, summed exactly where there is one group. */
export const ConvInteger = single((at, ops) => {
  const [x, w] = filtered(at, ops);
  const filter = sizeOf(at.shape(1).slice(1));
  const attributes = convAttributes(at);
  const taps = sizeOf(at.shape(1).slice(2));
  const cuts = exactCuts(at, { axis: 1, each: taps, sumOf: (i) => Math.floor(i / filter) });
  const product = (cut: Cut) =>
    ops.op("Conv", [along(ops, x, { axis: 1, cut }), along(ops, w, { axis: 1, cut })], attributes);
  // A group would have to be cut within itself; one whose sums pass 2^24 is as exact as float32 is.
  if (at.int("group", 1) > 1) return ops.cast(ops.op("Conv", [x, w], attributes), "int32");
  return cuts.map((cut) => ops.cast(product(cut), "int32")).reduce(ops.add);
});

/**
 * ConvInteger's operands in float, less their zero points, of which the weight may have one per filter.
 * Padding stands for the zero point, so it is 0 from here on.
 */
export function filtered(at: Site, ops: Ops): readonly [string, string] {
  const zero = at.has(3) ? onAxis(ops, at.input(3), { rank: at.shape(1).length, axis: 0 }) : undefined;
  return [centred(ops, at.input(0), optional(at, 2)), centred(ops, at.input(1), zero)];
}

/** A product of levels, scaled by sa·sb/sy and rounded once, as onnxruntime's kernels do. */
export const QLinearMatMul = single((at, ops) => {
  const [a, b, zeroA, zeroB] = [at.input(0), at.input(3), at.input(2), at.input(5)];
  const sum = ops.op("MatMulInteger", [a, b, zeroA, zeroB]);
  const scales = ops.mul(perRow(ops, at.input(1)), perColumn(ops, at.input(4)));
  return requantised(at, ops, { sum, scales });
});

/**
 * X `[batch, channels, …]`, W `[filters, channels / group, …]`, each with scale and zero point (W's one or
 * `[filters]`), those of the result, and a bias `[filters]` in int32 of scale sx·sw; gives levels
 * `[batch, filters, …]`.
 */
export const QLinearConv = single((at, ops) => {
  const operands = [at.input(0), at.input(3), at.input(2), at.input(5)];
  const sum = ops.op("ConvInteger", operands, convAttributes(at));
  const channels = { rank: at.shape(0).length, axis: 1 };
  const biased = at.has(8) ? ops.add(sum, onAxis(ops, at.input(8), channels)) : sum;
  const scales = ops.mul(ops.reshape(at.input(1), []), onAxis(ops, at.input(4), channels));
  return requantised(at, ops, { sum: biased, scales });
});

/** The levels of `sum`·`scales`, with the result's scale and zero point in inputs 6 and 7. */
function requantised(at: Site, ops: Ops, { sum, scales }: { sum: string; scales: string }): string {
  if (sizeOf(at.shape(6)) !== 1 || sizeOf(at.shape(7)) !== 1)
    throw at.fault("unsupported", "scale of the result", { expected: "one", got: `[${at.shape(6)}]` });
  const [scale, zero] = [ops.reshape(at.input(6), []), ops.reshape(at.input(7), [])];
  const y = ops.mul(ops.cast(sum, ops.build.static(scales).dtype), ops.div(scales, scale));
  return ops.op("QuantizeLinear", [y, ops.number(1, y), zero]);
}

/** Scale or zero point (input `index`) in float, so that it broadcasts to the first input. */
export function spread(at: Site, ops: Ops, index: number): string {
  const [shape, own] = [at.shape(0), at.shape(index)];
  const values = ops.cast(at.input(index), at.dtype(1));
  if (sizeOf(own) === 1) return ops.reshape(values, []);
  const axis = at.axis(at.int("axis", 1), shape.length);
  const { kind, block } = spreadOf(own, shape, axis);
  if (kind === "axis") return onAxis(ops, values, { rank: shape.length, axis });
  const size = at.int("block_size", 0) || block;
  const split = ops.reshape(values, [...own.slice(0, axis + 1), 1, ...own.slice(axis + 1)]);
  const wide = ops.expand(split, [...own.slice(0, axis + 1), size, ...own.slice(axis + 1)]);
  const joined = ops.reshape(wide, own.with(axis, own[axis]! * size));
  if (own[axis]! * size === shape[axis]) return joined;
  return ops.slice(joined, { axes: [axis], starts: [0], ends: [shape[axis]!] });
}

/** A vector along one axis of a tensor of the given rank; one value broadcasts anyway. */
function onAxis(ops: Ops, x: string, { rank, axis }: { rank: number; axis: number }): string {
  const size = sizeOf(ops.shape(x));
  if (size === 1) return ops.reshape(x, []);
  return ops.reshape(
    x,
    range(rank).map((d) => (d === axis ? size : 1)),
  );
}

/** Clipped to the levels of `dtype`, and in it. */
function saturated(ops: Ops, x: string, dtype: DType): string {
  const [low, high] = levelsOf(dtype)!;
  // Clip took its bounds as attributes before version 11.
  const clipped =
    ops.build.opset < 11
      ? ops.op("Clip", [x], { min: { float: low }, max: { float: high } })
      : ops.op("Clip", [x, ops.number(low, x), ops.number(high, x)]);
  return ops.cast(clipped, dtype);
}

function centred(ops: Ops, x: string, zero: string | undefined): string {
  const float = ops.cast(x, "float32");
  return zero === undefined ? float : ops.sub(float, ops.cast(zero, "float32"));
}

function optional(at: Site, index: number): string | undefined {
  return at.has(index) ? at.input(index) : undefined;
}

type Cut = { readonly from: number; readonly to: number };

/** Up to here float32 holds every integer, so partial sums below it are exact in any order. */
const EXACT = 2 ** 24;

/** What is summed in a product of levels: along which axis of the second operand, and into which sum. */
type Sums = {
  readonly axis: number;
  /** Products that one index of the axis adds to a sum. */
  readonly each: number;
  /** The sum that an element of the second operand goes to. */
  sumOf(i: number): number;
};

/**
 * Where to cut the axis that is summed over, so that no sum of a part reaches 2^24. Of a constant operand the
 * actual values count: weights of a usual layer need no cut.
 */
function exactCuts(at: Site, sums: Sums): readonly Cut[] {
  const length = at.shape(1)[sums.axis]!;
  const left = reach(at, 0, 2);
  const most = left * (largestSum(at, sums) ?? length * sums.each * reach(at, 1, 3));
  const size = most < EXACT ? length : Math.floor((EXACT - 1) / (left * reach(at, 1, 3) * sums.each));
  const step = Math.max(1, size);
  return range(Math.max(1, Math.ceil(length / step))).map((i) => ({
    from: i * step,
    to: Math.min(length, (i + 1) * step),
  }));
}

/** How far a level can be from its zero point; between any two levels, where that is not constant. */
function reach(at: Site, index: number, zeroIndex: number): number {
  const [low, high] = levelsOf(at.dtype(index)) ?? [-128, 127];
  if (!at.has(zeroIndex)) return Math.max(-low, high);
  const zero = at.constant(zeroIndex);
  if (!zero) return high - low;
  return numbers(zero).reduce((most, z) => Math.max(most, z - low, high - z), 0);
}

/** The largest sum of |level − zero| over a constant second operand; undefined where it is not known. */
function largestSum(at: Site, { sumOf }: Sums): number | undefined {
  const [levels, zero] = [at.constant(1), at.constant(3)];
  if (!levels || (at.has(3) && !zero)) return undefined;
  const [values, zeros] = [numeric(levels), zero ? numbers(zero) : [0]];
  const sums: number[] = [];
  for (let i = 0; i < values.length; i++) {
    const sum = sumOf(i);
    const from = zeros.length === 1 ? zeros[0] : zeros[sum];
    if (from === undefined) return undefined;
    sums[sum] = (sums[sum] ?? 0) + Math.abs(Number(values[i]) - from);
  }
  return sums.reduce((a, b) => Math.max(a, b), 0);
}

/** One part of a tensor along an axis. */
function along(ops: Ops, x: string, { axis, cut }: { axis: number; cut: Cut }): string {
  const { from, to } = cut;
  if (from === 0 && to === ops.shape(x)[axis]) return x;
  return ops.slice(x, { axes: [axis], starts: [from], ends: [to] });
}
