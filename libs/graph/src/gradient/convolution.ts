import { assert } from "@tutti/foundation/check";
import { padsOfTranspose } from "../infer/convolve.ts";
import { type Ops, range } from "../ops.ts";
import type { Site } from "../site.ts";
import type { GradientRule } from "./rule.ts";
import { reverse } from "./shape.ts";
import { dilateAll, fit, padFor, places, reach, shifted, type Window, windowOf } from "./window.ts";

/**
 * Kernels up to this many places, and all grouped ones, get their weight gradient as one product per place.
 */
const MAX_PLACES = 32;

/**
 * Y = W ∗ X + b with strides, dilations, padding and groups, over any number of spatial axes. Gradients are
 * written with Conv and MatMul alone: ConvTranspose and the filter-gradient kernels are missing or slow in
 * some engines, while every engine has a good forward convolution.
 */
export const Conv: GradientRule = (site, ops) => {
  const [x, weight, dy] = [site.input(0), site.shape(1), site.dy];
  const window = windowOf(site, weight.slice(2), ops.shape(site.y).slice(2));
  const geometry = { site, window, group: site.int("group", 1), weight };
  return [
    () => convInput(ops, dy, { ...geometry, by: site.input(1) }),
    () => convWeight(ops, [x, dy], geometry),
    () => channelSum(ops, dy),
  ];
};

/**
 * Y = the adjoint of a Conv over Y, plus b (ConvTranspose-11). So dX is that Conv of dY, and dW its weight
 * gradient with X in the place of what arrives.
 */
export const ConvTranspose: GradientRule = (site, ops) => {
  const [x, weight, dy] = [site.input(0), site.shape(1), site.dy];
  const kernel = weight.slice(2);
  const ones = kernel.map(() => 1);
  const pads = padsOfTranspose(site);
  const window: Window = {
    kernel,
    strides: site.ints("strides", ones),
    dilations: site.ints("dilations", ones),
    before: pads.map(([before]) => before),
    after: pads.map(([, after]) => after),
    input: ops.shape(dy).slice(2),
    output: site.shape(0).slice(2),
  };
  const geometry = { site, window, group: site.int("group", 1), weight };
  return [
    () => convOver(ops, [dy, site.input(1)], geometry),
    () => convWeight(ops, [dy, x], geometry),
    () => channelSum(ops, dy),
  ];
};

type Geometry = {
  readonly window: Window;
  readonly group: number;
  readonly weight: readonly number[];
  readonly site: Site;
};

function channelSum(ops: Ops, dy: string): string {
  return ops.sum(
    dy,
    range(ops.shape(dy).length).filter((axis) => axis !== 1),
  );
}

/** The Conv of a window, just as many positions of it as the window says. */
function convOver(ops: Ops, operands: readonly [string, string], { window, group }: Geometry): string {
  const { kernel, strides, dilations, before, output } = window;
  const padded = padFor(ops, operands[0], { window });
  const sizes = ops.shape(padded).slice(2);
  // What lies behind the last window (output_padding, a longer output_shape) no input position ever saw.
  const reached = sizes.map((size, axis) => Math.min(size, reach(window, axis)));
  const ready = fit(ops, padded, {
    before: before.map(() => 0),
    after: sizes.map((size, axis) => reached[axis]! - size),
  });
  const y = ops.op("Conv", [ready, operands[1]], { strides, dilations, group, kernel_shape: kernel });
  assert(`${ops.shape(y).slice(2)}` === `${output}`, "a window covers exactly what it reaches");
  return y;
}

/** The full correlation of dy, zeros between its values for a stride, with the kernel turned around. */
function convInput(ops: Ops, dy: string, { window, group, by }: Geometry & { by: string }): string {
  const { kernel, strides, dilations, before, input } = window;
  const wide = dilateAll(ops, dy, strides);
  const sizes = ops.shape(wide).slice(2);
  const lead = kernel.map((size, axis) => (size - 1) * dilations[axis]! - before[axis]!);
  // What is missing behind to give exactly the input's size; rows no window reached get zeros.
  const tail = input.map(
    (size, axis) => size + (kernel[axis]! - 1) * dilations[axis]! - sizes[axis]! - lead[axis]!,
  );
  const ready = fit(ops, wide, { before: lead, after: tail });
  return ops.op("Conv", [ready, turnedKernel(ops, by, group)], { dilations, group, kernel_shape: kernel });
}

/** [O, I/g, …] → [I, O/g, …] with every spatial axis reversed; done once when the weight is frozen. */
function turnedKernel(ops: Ops, weight: string, group: number): string {
  const [out, inPer, ...kernel] = ops.shape(weight) as [number, number, ...number[]];
  const rest = range(kernel.length);
  const split = ops.reshape(weight, [group, out / group, inPer, ...kernel]);
  const swapped = ops.transpose(split, [0, 2, 1, ...rest.map((axis) => axis + 3)]);
  const joined = ops.reshape(swapped, [group * inPer, out / group, ...kernel]);
  return rest.reduce((turned, axis) => reverse(ops, turned, axis + 2), joined);
}

type Pair = readonly [x: string, dy: string];

function convWeight(ops: Ops, pair: Pair, geometry: Geometry): string {
  const count = geometry.window.kernel.reduce((product, size) => product * size, 1);
  const few = count <= MAX_PLACES || geometry.group > 1;
  return few ? weightByPlace(ops, pair, geometry) : weightByConv(ops, pair, geometry.window);
}

/**
 * dW[:, :, place] = Σ over examples and positions of dy ⊗ (x as that place of the kernel sees it): a plain
 * product.
 */
function weightByPlace(ops: Ops, [input, arriving]: Pair, { site, window, group, weight }: Geometry): string {
  const [out, inPer, ...kernel] = weight as [number, number, ...number[]];
  const padded = padFor(ops, input, { window });
  const dy = grouped(ops, arriving, group);
  const slices = places(site, kernel).map((place) => {
    const x = grouped(ops, shifted(ops, padded, { window, place }), group);
    // Depthwise: a product of single rows is a sum of products, far cheaper than g tiny matrix products.
    const product =
      group > 1 && out === group && inPer === 1 ? ops.sum(ops.mul(dy, x), [2]) : ops.matmul(dy, ops.swap(x));
    return ops.reshape(product, [out, inPer, 1]);
  });
  const joined = slices.length === 1 ? slices[0]! : ops.op("Concat", slices, { axis: 2 });
  return ops.reshape(joined, weight);
}

/** [N, C, …] → [C, N·…] for one group, else [g, C/g, N·…]. */
function grouped(ops: Ops, x: string, group: number): string {
  const [batch, channels, ...sizes] = ops.shape(x) as [number, number, ...number[]];
  const positions = sizes.reduce((product, size) => product * size, 1);
  const flat = ops.reshape(x, [batch, channels, positions]);
  const turned = ops.transpose(flat, [1, 0, 2]);
  const lead = group === 1 ? [channels] : [group, channels / group];
  return ops.reshape(turned, [...lead, batch * positions]);
}

/**
 * For large kernels (patch embeddings): a convolution in which examples and channels have changed places and
 * strides and dilations too. A stride larger than the kernel's reach makes it too big: the rest is cut.
 */
function weightByConv(ops: Ops, [input, arriving]: Pair, window: Window): string {
  const { kernel, strides, dilations } = window;
  const swap = [1, 0, ...kernel.map((_, axis) => axis + 2)];
  const x = ops.transpose(padFor(ops, input, { window }), swap);
  const dy = ops.transpose(arriving, swap);
  const full = ops.op("Conv", [x, dy], { strides: dilations, dilations: strides });
  const cut = ops.slice(full, {
    axes: kernel.map((_, axis) => axis + 2),
    starts: kernel.map(() => 0),
    ends: kernel,
  });
  return ops.transpose(cut, swap);
}
