import { sizeOf } from "../ir.ts";
import { LIMITS } from "../limits.ts";
import { type Ops, range } from "../ops.ts";
import type { Site } from "../site.ts";
import { dilate } from "./shape.ts";

/** How a kernel moves over the spatial axes; one entry per axis. */
export type Window = {
  readonly kernel: readonly number[];
  readonly strides: readonly number[];
  readonly dilations: readonly number[];
  readonly before: readonly number[];
  readonly after: readonly number[];
  /** Spatial sizes of the input and the output. */
  readonly input: readonly number[];
  readonly output: readonly number[];
};

/** The window of Conv, MaxPool and AveragePool with `auto_pad` resolved (ONNX Conv-11, MaxPool-12). */
export function windowOf(site: Site, kernel: readonly number[], output: readonly number[]): Window {
  const spatial = kernel.length;
  const input = site.shape(0).slice(2);
  const ones = kernel.map(() => 1);
  const strides = site.ints("strides", ones);
  const dilations = site.ints("dilations", ones);
  const pads = site.ints("pads", Array<number>(2 * spatial).fill(0));
  const mode = site.string("auto_pad", "NOTSET");
  if (mode === "VALID" || mode === "NOTSET") {
    const none = mode === "VALID" ? ones.map(() => 0) : undefined;
    const [before, after] = [none ?? pads.slice(0, spatial), none ?? pads.slice(spatial)];
    return { kernel, strides, dilations, before, after, input, output };
  }
  const total = kernel.map((size, axis) => {
    const reach = (output[axis]! - 1) * strides[axis]! + (size - 1) * dilations[axis]! + 1;
    return Math.max(reach - input[axis]!, 0);
  });
  // SAME_UPPER puts an odd padding at the end, SAME_LOWER at the beginning.
  const small = total.map((size) => Math.floor(size / 2));
  const large = total.map((size) => Math.ceil(size / 2));
  const [before, after] = mode === "SAME_UPPER" ? [small, large] : [large, small];
  return { kernel, strides, dilations, before, after, input, output };
}

/** Places of a kernel that a rule may emit nodes for: each takes up to ten of what a graph may have. */
const MOST_PLACES = LIMITS.nodes / 40;

/**
 * Every place in the kernel, row-major: [0, 0], [0, 1], …
 * @throws Fault("unsupported") for kernels of more places than a graph should have nodes for.
 */
export function places(site: Site, kernel: readonly number[]): readonly (readonly number[])[] {
  const count = sizeOf(kernel);
  if (count > MOST_PLACES) {
    const expected = `at most ${MOST_PLACES} places`;
    throw site.fault("unsupported", "gradient of a kernel", { expected, got: `${count}` });
  }
  return kernel.reduce<readonly (readonly number[])[]>(
    (found, size) => found.flatMap((place) => range(size).map((at) => [...place, at])),
    [[]],
  );
}

/**
 * What each output sees at one place of the kernel: [N, C, …output]. `padded` is x with its padding, see
 * padFor.
 */
export function shifted(
  ops: Ops,
  padded: string,
  { window, place }: { window: Window; place: readonly number[] },
): string {
  const { strides, dilations, output } = window;
  const starts = place.map((at, axis) => at * dilations[axis]!);
  const ends = starts.map((start, axis) => start + (output[axis]! - 1) * strides[axis]! + 1);
  const whole = starts.every((start, axis) => start === 0 && ends[axis] === ops.shape(padded)[axis + 2]);
  const plain = strides.every((stride) => stride === 1);
  if (whole && plain) return padded;
  const axes = strides.map((_, axis) => axis + 2);
  return ops.slice(padded, plain ? { axes, starts, ends } : { axes, starts, ends, steps: strides });
}

/** x with the window's padding, and more behind it where the last windows reach further (ceil_mode). */
export function padFor(
  ops: Ops,
  x: string,
  { window, value = 0 }: { window: Window; value?: number },
): string {
  const after = window.after.map((size, axis) =>
    Math.max(size, reach(window, axis) - window.input[axis]! - window.before[axis]!),
  );
  return ops.pad(x, { before: [0, 0, ...window.before], after: [0, 0, ...after], value });
}

/** Padded positions the windows cover along an axis. */
export function reach({ kernel, strides, dilations, output }: Window, axis: number): number {
  return (output[axis]! - 1) * strides[axis]! + (kernel[axis]! - 1) * dilations[axis]! + 1;
}

/** stride − 1 zeros between neighbours, along every spatial axis. */
export function dilateAll(ops: Ops, x: string, steps: readonly number[]): string {
  return steps.reduce((wide, step, axis) => dilate(ops, wide, { axis: axis + 2, step }), x);
}

/** Pads or crops each spatial axis: positive edges add zeros, negative ones cut. */
export function fit(ops: Ops, x: string, { before, after }: Pick<Window, "before" | "after">): string {
  const grown = ops.pad(x, {
    before: [0, 0, ...before.map((size) => Math.max(size, 0))],
    after: [0, 0, ...after.map((size) => Math.max(size, 0))],
  });
  if ([...before, ...after].every((size) => size >= 0)) return grown;
  const shape = ops.shape(grown);
  return ops.slice(grown, {
    axes: before.map((_, axis) => axis + 2),
    starts: before.map((size) => Math.max(-size, 0)),
    ends: after.map((size, axis) => shape[axis + 2]! - Math.max(-size, 0)),
  });
}
