import type { Site } from "../site.ts";
import { demandRank, demandShape, demandSize, one, sameDtype } from "./rule.ts";

/** A window sliding over the spatial axes: everything is a list with one entry per spatial axis. */
export type Window = {
  readonly kernel: readonly number[];
  readonly strides: readonly number[];
  readonly dilations: readonly number[];
  /** Padding before and after. */
  readonly pads: readonly (readonly [number, number])[];
  readonly out: readonly number[];
};

/**
 * The window of Conv and the pools, with `auto_pad` and `ceil_mode` resolved (Conv, MaxPool, since
 * version 11 and 12).
 */
export function windowOf(at: Site, kernel: readonly number[]): Window {
  const spatial = at.shape(0).slice(2);
  demandSize(at, "spatial rank", { expected: kernel.length, got: spatial.length });
  const ones = spatial.map(() => 1);
  const [strides, dilations] = [at.ints("strides", ones), at.ints("dilations", ones)];
  if (strides.length !== kernel.length || dilations.length !== kernel.length)
    throw at.fault("bad-input", "strides and dilations", { expected: `${kernel.length} each` });
  if (Math.min(...strides, ...dilations, ...kernel) < 1)
    throw at.fault("bad-input", "kernel, strides and dilations", { expected: "1 or more" });
  const pads = at.ints("pads", []);
  if (pads.length > 0) demandSize(at, "count of pads", { expected: 2 * kernel.length, got: pads.length });
  const reach = kernel.map((size, axis) => (size - 1) * dilations[axis]! + 1);
  const padded = spatial.map((size, axis) =>
    padsOf(at, { axis, size, reach: reach[axis]!, stride: strides[axis]! }),
  );
  const out = spatial.map((size, axis) => {
    const [before, after] = padded[axis]!;
    return steps(at, {
      room: size + before + after - reach[axis]!,
      stride: strides[axis]!,
      end: size + before,
    });
  });
  return { kernel, strides, dilations, pads: padded, out };
}

function padsOf(
  at: Site,
  span: { axis: number; size: number; reach: number; stride: number },
): [number, number] {
  const auto = at.string("auto_pad", "NOTSET");
  if (auto === "VALID") return [0, 0];
  if (auto === "NOTSET") {
    const pads = at.ints("pads", []);
    if (pads.some((pad) => pad < 0))
      throw at.fault("bad-input", "pads", { expected: "0 or more", got: `${pads}` });
    return [pads[span.axis] ?? 0, pads[span.axis + pads.length / 2] ?? 0];
  }
  // SAME: ceil(size / stride) outputs; an odd rest goes to the end, or to the start for SAME_LOWER.
  const total = Math.max(0, (Math.ceil(span.size / span.stride) - 1) * span.stride + span.reach - span.size);
  const [less, more] = [Math.floor(total / 2), Math.ceil(total / 2)];
  return auto === "SAME_UPPER" ? [less, more] : [more, less];
}

/**
 * How many windows there are: room/stride rounded down or, with `ceil_mode`, up, plus 1 (MaxPool,
 * "output_spatial_shape"). Room may be negative: with ceil_mode one window may reach beyond the padding.
 */
function steps(at: Site, { room, stride, end }: { room: number; stride: number; end: number }): number {
  const ceil = at.int("ceil_mode", 0) !== 0;
  const count = (ceil ? Math.ceil(room / stride) : Math.floor(room / stride)) + 1;
  if (count < 1) throw at.fault("bad-input", "kernel", { expected: "one that fits the padded input" });
  // ibid.: "windows that would start in the right padded region are ignored". Their maximum would be that of
  // nothing. onnxruntime holds to it in every version of the operator.
  return ceil && (count - 1) * stride >= end ? count - 1 : count;
}

/**
 * X `[batch, channels, …]`, W `[filters, channels / group, …kernel]`, bias `[filters]` (Conv, since
 * version 11).
 */
export function Conv(at: Site) {
  const [x, w] = [at.shape(0), at.shape(1)];
  if (x.length < 3) throw at.fault("bad-input", "rank", { expected: "3 or more", got: `${x.length}` });
  demandSize(at, "rank of the weight", { expected: x.length, got: w.length });
  demandKernel(at, w.slice(2));
  const group = at.int("group", 1);
  demandSize(at, "input channels", { expected: w[1]! * group, got: x[1]! });
  demandSize(at, "output channels over groups", { expected: 0, got: w[0]! % group });
  if (at.has(2) && `${at.shape(2)}` !== `${w[0]}`)
    throw at.fault("bad-input", "bias", { expected: `[${w[0]}]`, got: `[${at.shape(2)}]` });
  const dtype = sameDtype(at, at.has(2) ? [0, 1, 2] : [0, 1]);
  return one(dtype, [x[0]!, w[0]!, ...windowOf(at, w.slice(2)).out]);
}

/** The attribute says again what the weight's shape does. */
function demandKernel(at: Site, sizes: readonly number[]): void {
  const given = at.ints("kernel_shape", sizes);
  if (`${given}` === `${sizes}`) return;
  throw at.fault("bad-input", "attribute kernel_shape", { expected: `[${sizes}]`, got: `[${given}]` });
}

/** Pools work on each channel by itself. */
function pooled(at: Site): readonly number[] {
  demandRank(at, 0, 3, Number.POSITIVE_INFINITY);
  const [batch, channels] = at.shape(0);
  return [batch!, channels!, ...windowOf(at, at.ints("kernel_shape")).out];
}

/** The second output tells where each maximum lay, counted through the whole tensor. */
export function MaxPool(at: Site) {
  const shape = pooled(at);
  return [
    { dtype: at.dtype(0), shape },
    { dtype: "int64" as const, shape },
  ];
}

export function AveragePool(at: Site) {
  return one(at.dtype(0), pooled(at));
}

export const LpPool = AveragePool;

/**
 * Spatial axes stay with size 1. The standard does not say what a maximum or a mean of no cells is;
 * onnxruntime refuses such an image too.
 */
export function GlobalAveragePool(at: Site) {
  demandRank(at, 0, 2, Number.POSITIVE_INFINITY);
  const [batch, channels, ...spatial] = at.shape(0);
  if (spatial.includes(0))
    throw at.fault("bad-input", "image", { expected: "one cell or more", got: `[${spatial}]` });
  return one(at.dtype(0), [batch!, channels!, ...spatial.map(() => 1)]);
}

export const GlobalMaxPool = GlobalAveragePool;
export const GlobalLpPool = GlobalAveragePool;

/** ConvTranspose's output sizes: given, or what a Conv with this window would have come from. */
export function ConvTranspose(at: Site) {
  const [x, w] = [at.shape(0), at.shape(1)];
  demandRank(at, 0, 3, Number.POSITIVE_INFINITY);
  demandSize(at, "rank of the weight", { expected: x.length, got: w.length });
  demandKernel(at, w.slice(2));
  demandSize(at, "input channels", { expected: w[0]!, got: x[1]! });
  demandSize(at, "input channels over groups", { expected: 0, got: x[1]! % at.int("group", 1) });
  demandShape(at, 2, [w[1]! * at.int("group", 1)]);
  demandLists(at, x.length - 2);
  const pads = padsOfTranspose(at);
  const spatial = x.slice(2).map((size, axis) => {
    const given = at.ints("output_shape", []).at(axis - (x.length - 2));
    return given ?? grown(at, { axis, size }) - pads[axis]![0] - pads[axis]![1];
  });
  return one(sameDtype(at, at.has(2) ? [0, 1, 2] : [0, 1]), [x[0]!, w[1]! * at.int("group", 1), ...spatial]);
}

/** A number per spatial axis (pads: two), each large enough to mean something; or none. */
function demandLists(at: Site, axes: number): void {
  const least = { strides: 1, dilations: 1, output_padding: 0, output_shape: 1, pads: 0 };
  for (const [name, low] of Object.entries(least)) {
    const values = at.ints(name, []);
    const counts = [0, axes, ...(name === "pads" ? [2 * axes] : name === "output_shape" ? [axes + 2] : [])];
    if (counts.includes(values.length) && values.every((value) => value >= low)) continue;
    const expected = `${axes} axes of ${low} or more`;
    throw at.fault("bad-input", `attribute ${name}`, { expected, got: `[${values}]` });
  }
}

/** Output size before anything is cut off: stride·(size − 1) + output_padding + reach. */
function grown(at: Site, { axis, size }: { axis: number; size: number }): number {
  const dilation = at.ints("dilations", [])[axis] ?? 1;
  const reach = (at.shape(1)[axis + 2]! - 1) * dilation + 1;
  return (
    (at.ints("strides", [])[axis] ?? 1) * (size - 1) + (at.ints("output_padding", [])[axis] ?? 0) + reach
  );
}

/** What ConvTranspose cuts off before and after; a given `output_shape` or `auto_pad` decides the sum. */
export function padsOfTranspose(at: Site): readonly (readonly [number, number])[] {
  const sizes = at.shape(0).slice(2);
  const auto = at.string("auto_pad", "NOTSET");
  const given = at.ints("output_shape", []).slice(-sizes.length);
  const pads = at.ints("pads", []);
  return sizes.map((size, axis) => {
    if (given.length === 0 && !auto.startsWith("SAME")) {
      return auto === "VALID" ? [0, 0] : [pads[axis] ?? 0, pads[axis + sizes.length] ?? 0];
    }
    const wanted = given[axis] ?? size * (at.ints("strides", [])[axis] ?? 1);
    const total = Math.max(0, grown(at, { axis, size }) - wanted);
    const [less, more] = [Math.floor(total / 2), Math.ceil(total / 2)];
    return auto === "SAME_UPPER" ? [less, more] : [more, less];
  });
}

/** Windows as columns, put back into images: sizes as of a window over the image (Col2Im, version 18). */
export function columnsOf(at: Site): Window & { readonly image: readonly number[] } {
  const [image, kernel] = [at.numbers(1), at.numbers(2)];
  const ones = image.map(() => 1);
  const [strides, dilations] = [at.ints("strides", ones), at.ints("dilations", ones)];
  const edges = at.ints("pads", [...ones, ...ones].fill(0));
  const pads = image.map((_, i) => [edges[i]!, edges[i + image.length]!] as const);
  const out = image.map((size, i) => {
    const reach = (kernel[i]! - 1) * dilations[i]! + 1;
    return Math.floor((size + pads[i]![0] + pads[i]![1] - reach) / strides[i]!) + 1;
  });
  return { image, kernel, strides, dilations, pads, out };
}

/** Columns `[batch, channels · kernel, windows]` as images `[batch, channels, …image]`. */
export function Col2Im(at: Site) {
  const { image, kernel, out } = columnsOf(at);
  const [batch, rows, windows] = at.shape(0) as [number, number, number];
  const product = (sizes: readonly number[]) => sizes.reduce((total, size) => total * size, 1);
  demandSize(at, "windows", { expected: product(out), got: windows });
  demandSize(at, "rows over the kernel's size", { expected: 0, got: rows % product(kernel) });
  return one(at.dtype(0), [batch, rows / product(kernel), ...image]);
}

/** The input size of a pool with this output, unless it is given (MaxUnpool, since version 9). */
export function MaxUnpool(at: Site) {
  if (at.has(2)) return one(at.dtype(0), at.numbers(2));
  const [batch, channels, ...spatial] = at.shape(0) as [number, number, ...number[]];
  const kernel = at.ints("kernel_shape");
  const [strides, pads] = [
    at.ints(
      "strides",
      kernel.map(() => 1),
    ),
    at.ints("pads", []),
  ];
  const sizes = spatial.map(
    (size, i) => (size - 1) * strides[i]! + kernel[i]! - (pads[i] ?? 0) - (pads[i + spatial.length] ?? 0),
  );
  return one(at.dtype(0), [batch, channels, ...sizes]);
}
