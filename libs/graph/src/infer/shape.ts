import { sizeOf } from "../ir.ts";
import { dtypeOf } from "../onnx/dtype.ts";
import type { Site } from "../site.ts";
import { broadcast, demandRank, demandSingle, demandSize, one, sameDtype } from "./rule.ts";

// Operators that move elements or only rename their places. Shapes they are given as inputs must be constant
// by now: trace folds everything such a shape comes from.

/** A constant as soon as the input's shape is known: the start of most shape arithmetic in files. */
export function Shape(at: Site) {
  return one("int64", [shapeSpan(at).length]);
}

/** The dimensions that Shape reports: `start` and `end` are clamped to the rank (Shape, since version 15). */
export function shapeSpan(at: Site): readonly number[] {
  const shape = at.shape(0);
  return shape.slice(at.int("start", 0), at.int("end", shape.length));
}

export function Size(_at: Site) {
  return one("int64", []);
}

/**
 * 0 keeps the size of the input's own axis unless `allowzero`, one -1 takes what is left (Reshape, since
 * version 14). The product is checked, so a baked-in batch size fails here by name.
 */
export function Reshape(at: Site) {
  const shape = at.shape(0);
  const asked = at.list("shape", 1);
  if (!asked) throw at.fault("bad-input", "input 1", { expected: "a shape", got: "nothing" });
  const zeroIsZero = at.int("allowzero", 0) !== 0;
  const known = asked.map((size, axis) => (size === 0 && !zeroIsZero ? (shape[axis] ?? 0) : size));
  const rest = known.filter((size) => size !== -1).reduce((product, size) => product * size, 1);
  const total = sizeOf(shape);
  const filled = known.map((size) => (size === -1 ? (rest === 0 ? 0 : total / rest) : size));
  const bad = filled.some((size) => !Number.isInteger(size) || size < 0) || sizeOf(filled) !== total;
  if (bad || known.filter((size) => size === -1).length > 1)
    throw at.fault("bad-input", "shape", { expected: `${total} elements of [${shape}]`, got: `[${asked}]` });
  return one(at.dtype(0), filled);
}

export function Transpose(at: Site) {
  return one(
    at.dtype(0),
    permutation(at).map((axis) => at.shape(0)[axis]!),
  );
}

/** Transpose's order of axes; reversed where the node names none (Transpose, since version 1, as numpy's). */
export function permutation(at: Site): readonly number[] {
  const rank = at.shape(0).length;
  const order = at.ints(
    "perm",
    Array.from({ length: rank }, (_, axis) => rank - 1 - axis),
  );
  const seen = new Set(order.filter((axis) => axis >= 0 && axis < rank));
  if (order.length !== rank || seen.size !== rank)
    throw at.fault("bad-input", "attribute perm", {
      expected: `an order of ${rank} axes`,
      got: `[${order}]`,
    });
  return order;
}

/** Everything before the axis becomes rows, the rest columns (Flatten, since version 13). */
export function Flatten(at: Site) {
  const shape = at.shape(0);
  const axis = at.int("axis", 1);
  // The rank itself is allowed here: everything then lies before the cut.
  const cut = axis === shape.length ? axis : at.axis(axis, shape.length);
  return one(at.dtype(0), [sizeOf(shape.slice(0, cut)), sizeOf(shape.slice(cut))]);
}

/** Axes count in the result, which is why its rank comes first (Unsqueeze, since version 13: as an input). */
export function Unsqueeze(at: Site) {
  const axes = at.list("axes", 1) ?? [];
  const rank = at.shape(0).length + axes.length;
  const placed = new Set(axes.map((axis) => at.axis(axis, rank)));
  demandSize(at, "distinct axes", { expected: axes.length, got: placed.size });
  const rest = [...at.shape(0)];
  return one(
    at.dtype(0),
    Array.from({ length: rank }, (_, axis) => (placed.has(axis) ? 1 : rest.shift()!)),
  );
}

/**
 * Without axes every axis of size 1 goes (Squeeze, since version 13: axes as an input). So it does where an
 * attribute lists none, to the standard's reference and to onnxruntime. Where an input lists none, every axis
 * stays to the one and goes to the other: no engine's answer would be another's.
 */
export function Squeeze(at: Site) {
  const shape = at.shape(0);
  const named = at.list("axes", 1) ?? [];
  if (named.length === 0 && at.has(1) && shape.includes(1))
    throw at.fault("unsupported", "input 1", { expected: "one axis or more, or no input", got: "no axes" });
  const axes = named.map((axis) => at.axis(axis, shape.length));
  const gone = new Set(axes.length > 0 ? axes : shape.flatMap((size, axis) => (size === 1 ? [axis] : [])));
  for (const axis of gone) demandSize(at, `size of axis ${axis}`, { expected: 1, got: shape[axis]! });
  return one(
    at.dtype(0),
    shape.filter((_, axis) => !gone.has(axis)),
  );
}

/** Sizes agree on every axis but the one joined; nothing broadcasts (Concat, since version 13). */
export function Concat(at: Site) {
  const all = at.node.inputs.map((_, index) => index);
  const shape = joined(at, all);
  return one(sameDtype(at, all), shape);
}

/** The shape of these inputs, one after the other along attribute `axis`. */
export function joined(at: Site, parts: readonly number[]): readonly number[] {
  const first = at.shape(parts[0]!);
  const axis = at.axis(at.int("axis"), first.length);
  for (const index of parts) {
    const shape = at.shape(index);
    if (shape.length !== first.length || shape.some((size, i) => i !== axis && size !== first[i]))
      throw at.fault("bad-input", `input ${index}`, {
        expected: `[${first}] but on axis ${axis}`,
        got: `[${shape}]`,
      });
  }
  return first.with(
    axis,
    parts.reduce((sum, index) => sum + at.shape(index)[axis]!, 0),
  );
}

/** Split's sizes: input or attribute `split`, else equal parts, the last one smaller (since version 18). */
export function Split(at: Site) {
  const shape = at.shape(0);
  const axis = at.axis(at.int("axis", 0), shape.length);
  const parts = at.node.outputs.length;
  demandSize(at, "num_outputs", { expected: parts, got: at.int("num_outputs", parts) });
  const each = Math.ceil(shape[axis]! / parts);
  const equal = Array.from({ length: parts }, (_, i) => Math.max(0, Math.min(each, shape[axis]! - i * each)));
  const sizes = at.list("split", 1) ?? equal;
  demandSize(at, "split sizes", { expected: parts, got: sizes.length });
  demandSize(at, "sum of split sizes", { expected: shape[axis]!, got: sizes.reduce((a, b) => a + b, 0) });
  return sizes.map((size) => ({ dtype: at.dtype(0), shape: shape.with(axis, size) }));
}

/** Per axis of the input: where a slice starts, its step, and how many elements it takes. */
export type Span = { readonly start: number; readonly step: number; readonly count: number };

/** Slice's clamping rules (Slice, since version 10; numpy's, so INT64_MAX means "to the end"). */
export function spans(at: Site): readonly Span[] {
  const shape = at.shape(0);
  const [starts, ends] = [at.list("starts", 1), at.list("ends", 2)];
  if (!starts || !ends) throw at.fault("bad-input", "bounds", { expected: "starts and ends", got: "none" });
  const axes = at.list("axes", 3) ?? starts.map((_, axis) => axis);
  const steps = at.list("steps", 4) ?? starts.map(() => 1);
  const out: Span[] = shape.map((count) => ({ start: 0, step: 1, count }));
  demandSize(at, "ends", { expected: starts.length, got: ends.length });
  for (const [i, given] of axes.entries()) {
    const axis = at.axis(given, shape.length);
    const step = steps[i] ?? 1;
    if (step === 0) throw at.fault("bad-input", "steps", { expected: "not 0", got: "0" });
    out[axis] = span(shape[axis]!, { start: starts[i]!, end: ends[i]!, step });
  }
  return out;
}

/** INT32_MAX and INT64_MAX, the latter as `safeNumber` clamps it. */
const ENDLESS: ReadonlySet<number> = new Set([2 ** 31 - 1, Number.MAX_SAFE_INTEGER]);

function span(size: number, asked: { start: number; end: number; step: number }): Span {
  const { step } = asked;
  const low = step > 0 ? 0 : -1;
  const high = step > 0 ? size : size - 1;
  const clamp = (at: number) => Math.min(high, Math.max(low, at < 0 ? at + size : at));
  // Backwards, position -1 stands for "before the first"; a start may not lie there unless the axis is empty.
  const start = step > 0 ? clamp(asked.start) : Math.max(size ? 0 : -1, clamp(asked.start));
  // onnxruntime reads the largest integers as "to the end" in either direction, where numpy would stop
  // at once.
  const end = step < 0 && ENDLESS.has(asked.end) ? -1 : clamp(asked.end);
  return { start, step, count: Math.max(0, Math.ceil((end - start) / step)) };
}

/** Empty slices are allowed: a count of 0 is a shape like any other. */
export function Slice(at: Site) {
  return one(
    at.dtype(0),
    spans(at).map((span) => span.count),
  );
}

/** Broadcasts both ways: a 1 in the asked shape keeps the input's size (Expand, since version 8). */
export function Expand(at: Site) {
  return one(at.dtype(0), broadcast(at, [at.shape(0), at.numbers(1)]));
}

/** One repeat per axis, and no fewer, unlike numpy.tile (Tile, since version 6). */
export function Tile(at: Site) {
  const repeats = at.numbers(1);
  demandSize(at, "repeats", { expected: at.shape(0).length, got: repeats.length });
  return one(
    at.dtype(0),
    at.shape(0).map((size, axis) => size * repeats[axis]!),
  );
}

/**
 * Elements added before and after each axis; negative values cut. All befores come first, then all afters, as
 * in Conv. `axes` came with version 18, before that every axis had its pair; pads were an attribute until 11.
 */
export function padding(at: Site): readonly (readonly [number, number])[] {
  const rank = at.shape(0).length;
  const pads = at.list(at.opset < 2 ? "paddings" : "pads", 1) ?? [];
  const axes = at.has(3)
    ? at.numbers(3).map((axis) => at.axis(axis, rank))
    : at.shape(0).map((_, axis) => axis);
  demandSize(at, "pads", { expected: 2 * axes.length, got: pads.length });
  const out: [number, number][] = at.shape(0).map(() => [0, 0]);
  for (const [i, axis] of axes.entries()) out[axis] = [pads[i]!, pads[i + axes.length]!];
  return out;
}

export function Pad(at: Site) {
  const pads = padding(at);
  demandSingle(at, 2);
  return one(
    at.dtype(0),
    at.shape(0).map((size, axis) => size + pads[axis]![0] + pads[axis]![1]),
  );
}

/**
 * Zeros in float32 unless `value`, a tensor of one element, says otherwise (ConstantOfShape, since version
 * 9).
 */
export function ConstantOfShape(at: Site) {
  const value = at.node.attributes.get("value");
  if (value === undefined) return one("float32", at.numbers(0));
  if (value.kind !== "tensor")
    throw at.fault("bad-input", "attribute value", { expected: "tensor", got: value.kind });
  demandSize(at, "elements of attribute value", { expected: 1, got: sizeOf(value.value.shape) });
  return one(value.value.dtype, at.numbers(0));
}

/** A step of zero gives an endless range, which the check of every inferred shape refuses. */
export function Range(at: Site) {
  for (const index of [0, 1, 2]) demandSingle(at, index);
  const [start, limit, delta] = [at.numbers(0)[0]!, at.numbers(1)[0]!, at.numbers(2)[0]!];
  return one(sameDtype(at, [0, 1, 2]), [Math.max(0, Math.ceil((limit - start) / delta))]);
}

export function Trilu(at: Site) {
  demandRank(at, 0, 2, Number.POSITIVE_INFINITY);
  demandSingle(at, 1);
  return [at.static(0)];
}

/** NCHW only, as the standard has it (DepthToSpace, since version 13). */
export function DepthToSpace(at: Site) {
  demandRank(at, 0, 4);
  const [batch, channels, height, width] = at.shape(0) as [number, number, number, number];
  const block = at.int("blocksize");
  const mode = at.string("mode", "DCR");
  if (mode !== "DCR" && mode !== "CRD")
    throw at.fault("unsupported", "attribute mode", { expected: "DCR or CRD", got: mode });
  return one(at.dtype(0), [batch, channels / block ** 2, height * block, width * block]);
}

/** Sizes that the block does not divide come out fractional, which the check of inferred shapes refuses. */
export function SpaceToDepth(at: Site) {
  demandRank(at, 0, 4);
  const [batch, channels, height, width] = at.shape(0) as [number, number, number, number];
  const block = at.int("blocksize");
  return one(at.dtype(0), [batch, channels * block ** 2, height / block, width / block]);
}

/** `dtype` is ONNX's number; without it the input's (EyeLike, since version 9). */
export function EyeLike(at: Site) {
  demandRank(at, 0, 2);
  const dtype = at.node.attributes.has("dtype") ? dtypeOf(at.int("dtype"), "EyeLike") : at.dtype(0);
  return one(dtype, at.shape(0));
}
