import { dilate } from "../gradient/shape.ts";
import { columnsOf, MaxUnpool as unpooled, windowOf } from "../infer/convolve.ts";
import { sizeOf } from "../ir.ts";
import { LIMITS } from "../limits.ts";
import { type Ops, range } from "../ops.ts";
import type { Site } from "../site.ts";
import { single } from "./rule.ts";

/** (Σ |x|ᵖ)^(1/p) under each window (LpPool, since version 2). A sum over a box is one per axis in turn. */
export const LpPool = single((at, ops) => {
  const window = windowOf(at, at.ints("kernel_shape"));
  fewTaps(at, window.kernel);
  const sums = window.kernel.reduce(
    (x, kernel, i) => {
      const [stride, dilation, out] = [window.strides[i]!, window.dilations[i]!, window.out[i]!];
      return slid(ops, x, { axis: i + 2, kernel, stride, dilation, out, before: window.pads[i]![0] });
    },
    powers(at, ops),
  );
  return root(at, ops, sums);
});

/** A node or more per tap: the same bound as a gradient's places (gradient/window.ts). */
function fewTaps(at: Site, kernel: readonly number[]): void {
  const most = LIMITS.nodes / 40;
  const count = kernel.reduce((sum, size) => sum + size, 0);
  if (count > most)
    throw at.fault("unsupported", "kernel", { expected: `at most ${most} taps`, got: `${count}` });
}

/** The same over all of space. */
export const GlobalLpPool = single((at, ops) =>
  root(at, ops, ops.sum(powers(at, ops), range(at.shape(0).length).slice(2), true)),
);

type Slide = {
  readonly axis: number;
  readonly kernel: number;
  readonly stride: number;
  readonly dilation: number;
  readonly out: number;
  readonly before: number;
};

/** Sums under a window that slides along one axis: a slice per tap, over zeros beyond the edges. */
function slid(ops: Ops, x: string, slide: Slide): string {
  const { axis, kernel, stride, dilation, out, before } = slide;
  const reach = (out - 1) * stride + 1;
  const needed = reach + (kernel - 1) * dilation;
  const size = ops.shape(x)[axis]!;
  const edge = (count: number) => ops.shape(x).map((_, i) => (i === axis ? count : 0));
  const padded = ops.pad(x, { before: edge(before), after: edge(Math.max(0, needed - before - size)) });
  const tap = (k: number) =>
    ops.slice(padded, {
      axes: [axis],
      starts: [k * dilation],
      ends: [k * dilation + reach],
      steps: [stride],
    });
  return range(kernel).map(tap).reduce(ops.add);
}

/** |x|ᵖ. */
function powers(at: Site, ops: Ops): string {
  const x = at.input(0);
  const p = at.int("p", 2);
  if (p === 2) return ops.mul(x, x);
  const size = ops.op("Abs", [x]);
  return p === 1 ? size : ops.op("Pow", [size, ops.number(p, x)]);
}

/** x^(1/p), and a slope of 0 rather than ∞ where a window holds nothing but zeros. */
function root(at: Site, ops: Ops, x: string): string {
  const p = at.int("p", 2);
  if (p === 1) return x;
  const some = ops.op("Greater", [x, ops.number(0, x)]);
  const safe = ops.where(some, x, ops.number(1, x));
  return ops.gate(some, p === 2 ? ops.op("Sqrt", [safe]) : ops.op("Pow", [safe, ops.number(1 / p, x)]));
}

/** Values at the flat positions that a MaxPool gave out, zeros elsewhere (MaxUnpool, since version 9). */
export const MaxUnpool = single((at, ops) => {
  const { shape } = unpooled(at)[0]!;
  const count = sizeOf(at.shape(0));
  const flat = (index: number) => ops.reshape(at.input(index), [count]);
  const into = ops.zeros([sizeOf(shape)], at.input(0));
  return ops.reshape(ops.op("ScatterElements", [into, flat(1), flat(0)], { axis: 0 }), shape);
});

/**
 * Each window's values added where they came from (Col2Im, since version 18), one axis of the image after
 * another, the last first: `[…, kernel, …, windows, …]` becomes `[…, image, …]`.
 */
export const Col2Im = single((at, ops) => {
  const { image, kernel, strides, dilations, pads, out } = columnsOf(at);
  const [batch, rows] = at.shape(0) as [number, number, number];
  const channels = rows / sizeOf(kernel);
  fewTaps(at, kernel);
  const start = ops.reshape(at.input(0), [batch * channels, ...kernel, ...out]);
  const whole = range(image.length).reduceRight((x, i) => {
    const [tap, axis] = [i + 1, 2 * i + 1];
    const [stride, dilation, [before, after]] = [strides[i]!, dilations[i]!, pads[i]!];
    const size = image[i]! + before + after;
    const placed = (k: number) => {
      const one = ops.slice(x, { axes: [tap], starts: [k], ends: [k + 1] });
      const rest = ops.reshape(one, ops.shape(one).toSpliced(tap, 1));
      const spread = dilate(ops, rest, { axis, step: stride });
      const edge = (count: number) => ops.shape(spread).map((_, at) => (at === axis ? count : 0));
      const left = size - k * dilation - ops.shape(spread)[axis]!;
      return ops.pad(spread, { before: edge(k * dilation), after: edge(left) });
    };
    const sum = range(kernel[i]!).map(placed).reduce(ops.add);
    return ops.slice(sum, { axes: [axis], starts: [before], ends: [before + image[i]!] });
  }, start);
  return ops.reshape(whole, [batch, channels, ...image]);
});
