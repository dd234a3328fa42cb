import { type Ops, range } from "../ops.ts";
import type { Adjoint, Rule } from "./rule.ts";
import { reverse } from "./shape.ts";
import { dilateAll, fit, padFor, places, shifted, type Window, windowOf } from "./window.ts";

/**
 * Kernels up to this many places, and all grouped ones, get their weight gradient as one product per place.
 */
const MAX_PLACES = 32;

/**
 * Y = W ∗ X + b with strides, dilations, padding and groups, over any number of spatial axes. Gradients are
 * written with Conv and MatMul alone: ConvTranspose and the filter-gradient kernels are missing or slow in
 * some engines, while every engine has a good forward convolution.
 */
export const Conv: Rule = (site, ops) => {
  const weight = site.shape(1);
  const window = windowOf(site, weight.slice(2), ops.shape(site.y).slice(2));
  const group = site.int("group", 1);
  const spatial = range(window.kernel.length).map((axis) => axis + 2);
  return [
    () => convInput(site, ops, { window, group }),
    () => convWeight(site, ops, { window, group }),
    () => ops.sum(site.dy, [0, ...spatial]),
  ];
};

type Geometry = { readonly window: Window; readonly group: number };

/** The full correlation of dy, zeros between its values for a stride, with the kernel turned around. */
function convInput(site: Adjoint, ops: Ops, { window, group }: Geometry): string {
  const { kernel, strides, dilations, before, input } = window;
  const wide = dilateAll(ops, site.dy, strides);
  const sizes = ops.shape(wide).slice(2);
  const lead = kernel.map((size, axis) => (size - 1) * dilations[axis]! - before[axis]!);
  // What is missing behind to give exactly the input's size; rows no window reached get zeros.
  const tail = input.map(
    (size, axis) => size + (kernel[axis]! - 1) * dilations[axis]! - sizes[axis]! - lead[axis]!,
  );
  const ready = fit(ops, wide, { before: lead, after: tail });
  return ops.op("Conv", [ready, turnedKernel(site, ops, group)], { dilations, group, kernel_shape: kernel });
}

/** [O, I/g, …] → [I, O/g, …] with every spatial axis reversed; done once when the weight is frozen. */
function turnedKernel(site: Adjoint, ops: Ops, group: number): string {
  const [out, inPer, ...kernel] = site.shape(1) as [number, number, ...number[]];
  const rest = range(kernel.length);
  const split = ops.reshape(site.input(1), [group, out / group, inPer, ...kernel]);
  const swapped = ops.transpose(split, [0, 2, 1, ...rest.map((axis) => axis + 3)]);
  const joined = ops.reshape(swapped, [group * inPer, out / group, ...kernel]);
  return rest.reduce((turned, axis) => reverse(ops, turned, axis + 2), joined);
}

function convWeight(site: Adjoint, ops: Ops, geometry: Geometry): string {
  const count = geometry.window.kernel.reduce((product, size) => product * size, 1);
  const few = count <= MAX_PLACES || geometry.group > 1;
  return few ? weightByPlace(site, ops, geometry) : weightByConv(site, ops, geometry.window);
}

/**
 * dW[:, :, place] = Σ over examples and positions of dy ⊗ (x as that place of the kernel sees it): a plain
 * product.
 */
function weightByPlace(site: Adjoint, ops: Ops, { window, group }: Geometry): string {
  const [out, inPer, ...kernel] = site.shape(1) as [number, number, ...number[]];
  const padded = padFor(ops, site.input(0), { window });
  const dy = grouped(ops, site.dy, group);
  const rank = kernel.length + 2;
  const slices = places(kernel).map((place) => {
    const x = grouped(ops, shifted(ops, padded, { window, place }), group);
    // Depthwise: a product of single rows is a sum of products, far cheaper than g tiny matrix products.
    const product =
      group > 1 && out === group && inPer === 1 ? ops.sum(ops.mul(dy, x), [2]) : ops.matmul(dy, ops.swap(x));
    return ops.reshape(product, [out, inPer, 1]);
  });
  const joined = slices.length === 1 ? slices[0]! : ops.op("Concat", slices, { axis: 2 });
  return ops.reshape(joined, [out, inPer, ...kernel].slice(0, rank));
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
function weightByConv(site: Adjoint, ops: Ops, window: Window): string {
  const { kernel, strides, dilations } = window;
  const swap = [1, 0, ...kernel.map((_, axis) => axis + 2)];
  const x = ops.transpose(padFor(ops, site.input(0), { window }), swap);
  const dy = ops.transpose(site.dy, swap);
  const full = ops.op("Conv", [x, dy], { strides: dilations, dilations: strides });
  const cut = ops.slice(full, {
    axes: kernel.map((_, axis) => axis + 2),
    starts: kernel.map(() => 0),
    ends: kernel,
  });
  return ops.transpose(cut, swap);
}
