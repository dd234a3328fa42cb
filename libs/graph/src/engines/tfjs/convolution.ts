import { sizeOf } from "../../ir.ts";
import type { Operator, OpSite } from "./op-site.ts";
import { asChannels, product, toFirst } from "./outer.ts";
import type { Tf, TfTensor } from "./tfjs.ts";
import { ofMoves, paddingOf, type Window, windowOf } from "./window.ts";

/*
 * wasm knows NHWC only, so an operator is: to NHWC, one kernel, back. Kernels are called by name since
 * tf.conv2d refuses a stride together with a dilation, which a convolution's gradient has and every backend
 * computes.
 */

export const Conv: Operator = (site, tf) => {
  const [filters, each, ...kernel] = site.shape(1) as [number, number, ...number[]];
  const out = site.shapeOut();
  const groups = site.int("group", 1);
  const window = windowOf(site, kernel, { from: site.shape(0), to: out });
  if (sizeOf(out) === 0 || sizeOf(site.shape(0)) === 0) return emptyConv(site, tf);
  // The taps along axes beyond two are channels of their own.
  const depth = each * product(window.outer, "kernel");
  const depthwise = groups > 1 && depth === 1;
  const arrange = (w: TfTensor): TfTensor =>
    depthwise
      ? tf.transpose(tf.reshape(w, [groups, filters / groups, ...window.kernel]), [2, 3, 0, 1])
      : tf.transpose(tf.reshape(w, [filters, depth, ...window.kernel]), [2, 3, 1, 0]);
  const ready = site.prepare(1, depthwise ? "depthwise filter" : "HWIO filter", arrange);
  return (x, w, bias) => {
    const filter = ready ? w : arrange(w);
    const last = asChannels(tf, x, window.outer);
    const y = depthwise
      ? kernelOf(tf, "DepthwiseConv2dNative", { x: last, filter, window })
      : convGroups(tf, { x: last, filter, window, groups });
    return toFirst(tf, bias ? tf.add(y, bias) : y, out);
  };
};

type Convolve = { x: TfTensor; filter: TfTensor; window: Window };

type KernelName = "Conv2D" | "DepthwiseConv2dNative";

function kernelOf(tf: Tf, name: KernelName, { x, filter, window }: Convolve): TfTensor {
  const strided = Math.max(...window.strides) > 1;
  if (strided && name === "DepthwiseConv2dNative" && Math.max(...window.dilations) > 1) {
    // cpu's depthwise kernel insists on a stride or a dilation of 1: every place, then those wanted.
    const every = kernelOf(tf, name, { x, filter, window: { ...window, strides: [1, 1] } });
    return tf.stridedSlice(every, [0, 0, 0, 0], every.shape, [1, ...window.strides, 1]);
  }
  const attributes = {
    strides: [...window.strides],
    dilations: [...window.dilations],
    pad: paddingOf(window),
    dataFormat: "NHWC",
    dimRoundingMode: "floor",
  };
  return tf.engine().runKernel(name, { x, filter } as never, attributes as never) as TfTensor;
}

/** Groups one after another: slices of the channels, concatenated. */
function convGroups(tf: Tf, { x, filter, window, groups }: Convolve & { groups: number }): TfTensor {
  if (groups === 1) return kernelOf(tf, "Conv2D", { x, filter, window });
  const xs = tf.split(x, groups, 3);
  const filters = tf.split(filter, groups, 3);
  return tf.concat(
    xs.map((part, g) => kernelOf(tf, "Conv2D", { x: part, filter: filters[g]!, window })),
    3,
  );
}

/** A convolution of nothing is the bias. */
function emptyConv(site: OpSite, tf: Tf) {
  const out = site.shapeOut();
  const channels = out.map((size, axis) => (axis === 1 ? size : 1));
  return (_x: TfTensor, _w: TfTensor, bias?: TfTensor): TfTensor =>
    bias && sizeOf(out) > 0 ? tf.add(tf.zeros(out), tf.reshape(bias, channels)) : tf.zeros(out);
}

/**
 * The gradient of Conv, done as a Conv (wasm's own backward kernel runs at 2 GFLOP/s, this at 25): the
 * input's cells stride apart with zeros between, a border as wide as the kernel less the pads, the kernel
 * turned around.
 */
export const ConvTranspose: Operator = (site, tf) => {
  const [channels, each, ...kernel] = site.shape(1) as [number, number, ...number[]];
  const out = site.shapeOut();
  const groups = site.int("group", 1);
  if (sizeOf(out) === 0 || sizeOf(site.shape(0)) === 0) return emptyConv(site, tf);
  const { window, strides, border } = backwards(site, kernel, out);
  const taps = product(window.outer, "kernel");
  const depthwise = groups > 1 && groups === channels && each === 1 && taps === 1;
  const arrange = (w: TfTensor): TfTensor => {
    const turned = tf.reverse(
      w,
      [...kernel.keys()].map((axis) => axis + 2),
    );
    if (depthwise) return tf.transpose(tf.reshape(turned, [channels, 1, ...window.kernel]), [2, 3, 0, 1]);
    const cells = window.kernel[0] * window.kernel[1];
    const grouped = tf.reshape(turned, [groups, channels / groups, each, taps, cells]);
    const hwio = tf.transpose(grouped, [4, 1, 3, 0, 2]);
    return tf.reshape(hwio, [...window.kernel, (channels / groups) * taps, groups * each]);
  };
  const ready = site.prepare(1, "turned filter", arrange);
  return (x, w, bias) => {
    const filter = ready ? w : arrange(w);
    const last = asChannels(tf, apartOuter(tf, x, strides), window.outer);
    const spread = withBorder(tf, apart(tf, last, planeOf(strides)), border);
    const y = depthwise
      ? kernelOf(tf, "DepthwiseConv2dNative", { x: spread, filter, window })
      : convGroups(tf, { x: spread, filter, window, groups });
    return toFirst(tf, bias ? tf.add(y, bias) : y, out);
  };
};

type Border = { top: number; bottom: number; left: number; right: number };

/**
 * The plain convolution a ConvTranspose is. The last two axes get a border beforehand, with which wasm's
 * kernel is rid of padding; the outer ones carry theirs in their moves (negative: cut off).
 */
function backwards(site: OpSite, kernel: readonly number[], out: readonly number[]) {
  const strides = site.ints(
    "strides",
    kernel.map(() => 1),
  );
  const dilations = site.ints(
    "dilations",
    kernel.map(() => 1),
  );
  const extra = site.ints(
    "output_padding",
    kernel.map(() => 0),
  );
  const moves = kernel.map((size, axis) => {
    const [input, output] = [site.shape(0)[axis + 2]!, out[axis + 2]!];
    const stride = strides[axis]!;
    const span = (size - 1) * dilations[axis]! + 1;
    const full = stride * (input - 1) + span + extra[axis]!;
    const cut = cutBefore(site, { axis, total: full - output });
    // The spread input has stride·size cells, its last stride - 1 of them zeros.
    const [before, after] = [span - 1 - cut, output + cut - stride * input];
    const move = { kernel: size, stride: 1, dilation: dilations[axis]!, before, after };
    return { ...move, input: stride * input, output };
  });
  const whole = ofMoves(moves);
  const border = {
    top: whole.before[0],
    bottom: whole.after[0],
    left: whole.before[1],
    right: whole.after[1],
  };
  const none = [0, 0] as const;
  return { window: { ...whole, before: none, after: none }, strides, border };
}

/** Cells of the full output that pads cut off in front: given, or half of what the output lacks. */
function cutBefore(site: OpSite, { axis, total }: { axis: number; total: number }): number {
  const auto = site.string("auto_pad", "NOTSET");
  if (auto === "SAME_UPPER") return Math.floor(total / 2);
  if (auto === "SAME_LOWER") return Math.ceil(total / 2);
  if (site.node.attributes.has("output_shape")) return Math.ceil(total / 2);
  return site.node.attributes.has("pads") ? site.ints("pads")[axis]! : 0;
}

/** The strides along the last two axes. */
const planeOf = (strides: readonly number[]) => [strides.at(-2) ?? 1, strides.at(-1)!] as const;

/** NC… with stride - 1 zeros after each cell of the axes in front of the last two. */
function apartOuter(tf: Tf, x: TfTensor, strides: readonly number[]): TfTensor {
  const shape = [...x.shape];
  return strides.slice(0, -2).reduce((held, stride, axis) => {
    if (stride === 1) return held;
    const inner = sizeOf(shape.slice(axis + 3));
    shape[axis + 2]! *= stride;
    return tf.reshape(tf.pad(tf.reshape(held, [-1, 1, inner]), zeros(stride - 1)), shape);
  }, x);
}

/** NHWC with stride - 1 rows and columns of zeros after each; pads of inserted axes, reshaped away. */
function apart(tf: Tf, x: TfTensor, [down, across]: readonly [number, number]): TfTensor {
  const [n, h, w, c] = x.shape as [number, number, number, number];
  const wide = across === 1 ? x : tf.pad(tf.reshape(x, [n * h * w, 1, c]), zeros(across - 1));
  const row = w * across * c;
  const tall = down === 1 ? wide : tf.pad(tf.reshape(wide, [n * h, 1, row]), zeros(down - 1));
  return tf.reshape(tall, [n, h * down, w * across, c]);
}

/** After the middle axis of three. */
const zeros = (count: number): [number, number][] => [
  [0, 0],
  [0, count],
  [0, 0],
];

/** Pads and crops rows and columns of an NHWC tensor. */
function withBorder(tf: Tf, x: TfTensor, { top, bottom, left, right }: Border): TfTensor {
  const [n, h, w, c] = x.shape as [number, number, number, number];
  const more = (count: number) => Math.max(0, count);
  const padded = tf.pad(x, [
    [0, 0],
    [more(top), more(bottom)],
    [more(left), more(right)],
    [0, 0],
  ]);
  if (Math.min(top, bottom, left, right) >= 0) return padded;
  const begin = [0, more(-top), more(-left), 0];
  return tf.slice(padded, begin, [n, h + top + bottom, w + left + right, c]);
}
