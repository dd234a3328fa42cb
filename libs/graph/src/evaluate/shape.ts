import { padding, permutation, shapeSpan, spans } from "../infer/shape.ts";
import { type Attribute, type Static, sizeOf, type Tensor } from "../ir.ts";
import type { Site } from "../site.ts";
import { allocate, int64, stridesOf } from "../tensor.ts";
import { view } from "./elementwise.ts";
import { type EvaluateRule, elements, filled, only, pick, positions, stretch, strided } from "./rule.ts";

// Everything that moves elements is one strided walk over the input (rule.ts); what only renames places
// shares storage with it, so that folding a Reshape of a weight costs nothing.

export function Shape(at: Site) {
  return [int64(shapeSpan(at))];
}

export function Size(at: Site) {
  return [int64([sizeOf(at.shape(0))], [])];
}

export const Reshape = view;
export const Flatten = view;
export const Squeeze = view;
export const Unsqueeze = view;

export function Transpose(at: Site, out: readonly Static[]) {
  const { shape } = only(out);
  const own = stridesOf(at.shape(0));
  const strides = permutation(at).map((axis) => own[axis]!);
  return [strided(at.need(0), shape, { strides })];
}

/**
 * A view that starts inside and may step backwards; infer has clamped the bounds (Slice, since version 13).
 */
export function Slice(at: Site, out: readonly Static[]) {
  const own = stridesOf(at.shape(0));
  const cut = spans(at);
  const start = cut.reduce((sum, span, axis) => sum + span.start * own[axis]!, 0);
  const strides = cut.map((span, axis) => span.step * own[axis]!);
  return [strided(at.need(0), only(out).shape, { strides, start })];
}

/** Parts lie one after another along the axis; their sizes are the outputs' own (Split, since version 18). */
export function Split(at: Site, out: readonly Static[]) {
  const axis = at.axis(at.int("axis", 0), at.shape(0).length);
  const own = stridesOf(at.shape(0));
  let before = 0;
  return out.map(({ shape }) => {
    const part = strided(at.need(0), shape, { strides: own, start: before * own[axis]! });
    before += shape[axis]!;
    return part;
  });
}

/** Parts are written where they belong, so an int64 or a text passes through unchanged. */
export function Concat(at: Site, out: readonly Static[]) {
  const { dtype, shape } = only(out);
  const axis = at.axis(at.int("axis"), shape.length);
  const strides = stridesOf(shape);
  const data: Writable = dtype === "string" ? [] : allocate(dtype, sizeOf(shape));
  let before = 0;
  for (let index = 0; index < at.inputCount; index++) {
    const part = at.need(index);
    const to = positions(part.shape, strides, before * strides[axis]!);
    for (let i = 0; i < to.length; i++) data[to[i]!] = part.data[i]!;
    before += part.shape[axis]!;
  }
  return [{ dtype, shape, data: data as Tensor["data"] }];
}

/** Storage that takes elements of its own kind; all parts of a Concat share one dtype. */
type Writable = { [position: number]: number | bigint | string };

export function Expand(at: Site, out: readonly Static[]) {
  const { shape } = only(out);
  return [strided(at.need(0), shape, { strides: stretch(at.shape(0), shape) })];
}

/**
 * Repeats the whole, not each element: positions are taken modulo the input's sizes (Tile, as numpy.tile).
 */
export function Tile(at: Site, out: readonly Static[]) {
  const { shape } = only(out);
  const [own, to] = [stridesOf(at.shape(0)), stridesOf(shape)];
  const from = Float64Array.from({ length: sizeOf(shape) }, (_, i) =>
    at.shape(0).reduce((sum, size, axis) => sum + (Math.floor(i / to[axis]!) % size) * own[axis]!, 0),
  );
  return [pick(at.need(0), shape, from)];
}

/**
 * Modes of Pad: what stands at a position outside the input, as a position inside, or -1 for the constant.
 * Reflection leaves out the border itself and goes back and forth where pads are wider than the input, as
 * numpy.pad does; the standard only shows one turn (Pad, since version 19: wrap).
 */
const OUTSIDE: Readonly<Record<string, (position: number, size: number) => number>> = {
  constant: () => -1,
  edge: (position, size) => Math.min(size - 1, Math.max(0, position)),
  reflect: (position, size) => {
    const period = Math.max(1, 2 * (size - 1));
    const folded = ((position % period) + period) % period;
    return folded < size ? folded : period - folded;
  },
  wrap: (position, size) => ((position % size) + size) % size,
};

/** Negative pads cut: a position then begins inside the input, and the rest needs no case of its own. */
export function Pad(at: Site, out: readonly Static[]) {
  const outside = OUTSIDE[at.string("mode", "constant")];
  if (!outside) throw at.fault("unsupported", "attribute mode", { got: at.string("mode") });
  const { shape } = only(out);
  const [own, to, pads] = [stridesOf(at.shape(0)), stridesOf(shape), padding(at)];
  const x = elements(at.need(0));
  const blank = at.has(2) ? elements(at.need(2))[0]! : at.float("value", 0);
  const element = (i: number) => {
    let from = 0;
    for (const [axis, size] of at.shape(0).entries()) {
      const position = (Math.floor(i / to[axis]!) % shape[axis]!) - pads[axis]![0];
      const inside = position >= 0 && position < size ? position : outside(position, size);
      if (inside < 0) return blank;
      from += inside * own[axis]!;
    }
    return x[from]!;
  };
  return [filled(only(out), element)];
}

/** One element repeated, so any dtype, text too; float32 zeros by default (since version 9). */
export function ConstantOfShape(at: Site, out: readonly Static[]) {
  const value = at.node.attributes.get("value") as Extract<Attribute, { kind: "tensor" }> | undefined;
  if (value) return [pick(value.value, only(out).shape, new Float64Array(sizeOf(only(out).shape)))];
  return [filled(only(out), () => 0)];
}

/**
 * start + i·delta and not a running sum, which would drift; how many is infer's (Range, since version 11).
 */
export const Range: EvaluateRule = (at, out) => {
  const [start, delta] = [elements(at.need(0))[0]!, elements(at.need(2))[0]!];
  if (typeof start === "bigint" && typeof delta === "bigint")
    return [filled(only(out), (i) => start + delta * BigInt(i))];
  return [filled(only(out), (i) => Number(start) + Number(delta) * i)];
};

/**
 * `upper` keeps the diagonal `k` and what lies right of it, else what lies left (Trilu, since version
 * 14).
 */
export const Trilu: EvaluateRule = (at, out) => {
  const { shape } = only(out);
  const [rows, columns] = [shape.at(-2)!, shape.at(-1)!];
  const k = at.has(1) ? at.numbers(1)[0]! : 0;
  const upper = at.int("upper", 1) !== 0;
  const x = elements(at.need(0));
  const keeps = (i: number) => {
    const offset = (i % columns) - (Math.floor(i / columns) % rows);
    return upper ? offset >= k : offset <= k;
  };
  return [filled(only(out), (i) => (keeps(i) ? x[i]! : 0))];
};

/**
 * Blocks of channels become squares of pixels; DCR counts the square's place before the channel, CRD
 * after.
 */
export function DepthToSpace(at: Site, out: readonly Static[]) {
  const [batch, channels, height, width] = at.shape(0) as [number, number, number, number];
  const block = at.int("blocksize");
  const depth = channels / block ** 2;
  const plane = height * width;
  const [perPlace, perDepth] =
    at.string("mode", "DCR") === "DCR" ? [depth * plane, plane] : [plane, block ** 2 * plane];
  const split = [batch, depth, height, block, width, block];
  const strides = [channels * plane, perDepth, width, block * perPlace, 1, perPlace];
  return [{ ...strided(at.need(0), split, { strides }), shape: only(out).shape }];
}

/** DepthToSpace's inverse in its DCR order; this operator has no mode (SpaceToDepth, since version 13). */
export function SpaceToDepth(at: Site, out: readonly Static[]) {
  const [batch, channels, height, width] = at.shape(0) as [number, number, number, number];
  const block = at.int("blocksize");
  const split = [batch, block, block, channels, height / block, width / block];
  const strides = [channels * height * width, width, 1, height * width, width * block, block];
  return [{ ...strided(at.need(0), split, { strides }), shape: only(out).shape }];
}

/** `k` > 0 lies above the diagonal (EyeLike, since version 9). */
export function EyeLike(at: Site, out: readonly Static[]) {
  const columns = at.shape(0)[1]!;
  const k = at.int("k", 0);
  return [filled(only(out), (i) => ((i % columns) - Math.floor(i / columns) === k ? 1 : 0))];
}
