import type { OpSite } from "./op-site.ts";

/** A sliding window over two spatial axes; one-dimensional ones get a first axis of size 1. */
export type Window = {
  readonly kernel: readonly [number, number];
  readonly strides: readonly [number, number];
  readonly dilations: readonly [number, number];
  /** Cells added before and after each axis. `after` may exceed the attribute's where ceil_mode asks. */
  readonly before: readonly [number, number];
  readonly after: readonly [number, number];
  readonly input: readonly [number, number];
  readonly output: readonly [number, number];
};

type Pair = readonly [number, number];

/** Reads strides, dilations, pads and auto_pad; `from` and `to` are the shapes the window moves between. */
export function windowOf(
  site: OpSite,
  kernel: readonly number[],
  shapes: { from: readonly number[]; to: readonly number[] },
): Window {
  checkSpace(site, kernel.length);
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
  return {
    kernel: pair(kernel, 1),
    strides: pair(strides, 1),
    dilations: pair(dilations, 1),
    before: pair(before, 0),
    after: pair(after, 0),
    input: pair(input, 1),
    output: pair(output, 1),
  };
}

/** One or two spatial axes, or a Fault. */
export function checkSpace(site: OpSite, axes: number): void {
  if (axes === 1 || axes === 2) return;
  throw site.fault("unsupported", "kernel", { expected: "one or two spatial axes", got: `${axes}` });
}

/** With auto_pad the odd cell goes after (SAME_UPPER) or before (SAME_LOWER). */
function paddingBefore(site: OpSite, total: readonly number[]): readonly number[] {
  const auto = site.string("auto_pad", "NOTSET");
  if (auto === "SAME_UPPER") return total.map((sum) => Math.floor(sum / 2));
  if (auto === "SAME_LOWER") return total.map((sum) => Math.ceil(sum / 2));
  if (auto === "VALID") return total.map(() => 0);
  return site.ints("pads", [...total, ...total].fill(0)).slice(0, total.length);
}

/** One or two numbers as two, the missing first one given. */
export function pair(values: readonly number[], first: number): Pair {
  return values.length === 1 ? [first, values[0]!] : [values[0]!, values[1]!];
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
