import type { OpSite } from "./op-site.ts";

/** How a window moves along one axis. */
export type Move = {
  readonly kernel: number;
  readonly stride: number;
  readonly dilation: number;
  /** Cells added at either end; negative ones are cut off. */
  readonly before: number;
  readonly after: number;
  readonly input: number;
  readonly output: number;
};

/**
 * A sliding window over the last two spatial axes, which kernels know, and its moves along those in front of
 * them, which are done beside the kernels (outer.ts). One-dimensional ones get a first axis of size 1.
 */
export type Window = {
  readonly kernel: readonly [number, number];
  readonly strides: readonly [number, number];
  readonly dilations: readonly [number, number];
  /** Cells added before and after each axis. `after` may exceed the attribute's where ceil_mode asks. */
  readonly before: readonly [number, number];
  readonly after: readonly [number, number];
  readonly input: readonly [number, number];
  readonly output: readonly [number, number];
  readonly outer: readonly Move[];
};

type Pair = readonly [number, number];

type Shapes = { from: readonly number[]; to: readonly number[] };

/** The window of a node; `from` and `to` are the shapes it moves between. */
export const windowOf = (site: OpSite, kernel: readonly number[], shapes: Shapes): Window =>
  ofMoves(movesOf(site, kernel, shapes));

/** Reads strides, dilations, pads and auto_pad: a move along each spatial axis. */
export function movesOf(site: OpSite, kernel: readonly number[], shapes: Shapes): Move[] {
  const ones = kernel.map(() => 1);
  const strides = site.ints("strides", ones);
  const dilations = site.ints("dilations", ones);
  const [input, output] = [shapes.from.slice(2), shapes.to.slice(2)];
  const span = kernel.map((size, axis) => (size - 1) * dilations[axis]! + 1);
  const total = span.map((size, axis) =>
    Math.max(0, (output[axis]! - 1) * strides[axis]! + size - input[axis]!),
  );
  const before = paddingBefore(site, total);
  const after = total.map((sum, axis) => Math.max(0, sum - before[axis]!));
  return kernel.map((size, axis) => ({
    kernel: size,
    stride: strides[axis]!,
    dilation: dilations[axis]!,
    before: before[axis]!,
    after: after[axis]!,
    input: input[axis]!,
    output: output[axis]!,
  }));
}

/** The move along an axis of size 1. */
export const STILL: Move = { kernel: 1, stride: 1, dilation: 1, before: 0, after: 0, input: 1, output: 1 };

/** The window that moves so along its spatial axes, in order. */
export function ofMoves(moves: readonly Move[]): Window {
  const [rows, columns] = [moves.at(-2) ?? STILL, moves.at(-1) ?? STILL];
  const both = (key: keyof Move): Pair => [rows[key], columns[key]];
  return {
    kernel: both("kernel"),
    strides: both("stride"),
    dilations: both("dilation"),
    before: both("before"),
    after: both("after"),
    input: both("input"),
    output: both("output"),
    outer: moves.slice(0, -2),
  };
}

/** With auto_pad the odd cell goes after (SAME_UPPER) or before (SAME_LOWER). */
function paddingBefore(site: OpSite, total: readonly number[]): readonly number[] {
  const auto = site.string("auto_pad", "NOTSET");
  if (auto === "SAME_UPPER") return total.map((sum) => Math.floor(sum / 2));
  if (auto === "SAME_LOWER") return total.map((sum) => Math.ceil(sum / 2));
  if (auto === "VALID") return total.map(() => 0);
  return site.ints("pads", [...total, ...total].fill(0)).slice(0, total.length);
}

/** tfjs's explicit padding of an NHWC tensor. */
export function paddingOf({ before, after }: Window): [number, number][] {
  return [
    [0, 0],
    [before[0], after[0]],
    [before[1], after[1]],
    [0, 0],
  ];
}
