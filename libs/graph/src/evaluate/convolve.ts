import { padsOfTranspose, type Window, windowOf } from "../infer/convolve.ts";
import { type Static, sizeOf } from "../ir.ts";
import type { Site } from "../site.ts";
import { numbers, stridesOf } from "../tensor.ts";
import { type EvaluateRule, elements, filled, only } from "./rule.ts";

/** One place under the window: which kernel element lies over which position of the image. */
type Tap = { readonly kernel: number; readonly position: number };

/**
 * Calls `visit` for each output position of a window with the taps that fall inside the image. Padding is
 * never built: a place outside is no tap. That is a zero to a sum, −∞ to a maximum and no element to a mean,
 * so all operators of this file share the loop.
 */
function slide(
  window: Window,
  image: readonly number[],
  visit: (output: number, taps: readonly Tap[]) => void,
) {
  const [outSteps, kernelSteps, imageSteps] = [window.out, window.kernel, image].map(stridesOf);
  for (let output = 0; output < sizeOf(window.out); output++) {
    const taps: Tap[] = [];
    for (let kernel = 0; kernel < sizeOf(window.kernel); kernel++) {
      let position = 0;
      const inside = image.every((size, axis) => {
        const o = Math.floor(output / outSteps![axis]!) % window.out[axis]!;
        const k = Math.floor(kernel / kernelSteps![axis]!) % window.kernel[axis]!;
        const place = o * window.strides[axis]! + k * window.dilations[axis]! - window.pads[axis]![0];
        position += place * imageSteps![axis]!;
        return place >= 0 && place < size;
      });
      if (inside) taps.push({ kernel, position });
    }
    visit(output, taps);
  }
}

/**
 * The definition: y[n,o,p] = bias[o] + Σ w[o,c,k]·x[n,c,p·stride + k·dilation − pad] over the group's
 * channels. As everywhere in deep learning it is a correlation: the kernel is not turned around. Filters of
 * one group are neighbours, so filter o belongs to group o / perGroup (Conv, since version 11).
 */
export function Conv(at: Site, out: readonly Static[]) {
  const [batch, channels, ...image] = at.shape(0) as [number, number, ...number[]];
  const [filters, depth, ...kernel] = at.shape(1) as [number, number, ...number[]];
  const window = windowOf(at, kernel);
  const [x, w] = [numbers(at.need(0)), numbers(at.need(1))];
  const bias = at.has(2) ? numbers(at.need(2)) : undefined;
  const perGroup = filters / at.int("group", 1);
  const [plane, taken, spread] = [sizeOf(image), sizeOf(kernel), sizeOf(window.out)];
  const y = new Float64Array(sizeOf(only(out).shape));
  slide(window, image, (output, taps) => {
    for (let n = 0; n < batch; n++) {
      for (let o = 0; o < filters; o++) {
        let sum = bias?.[o] ?? 0;
        for (let c = 0; c < depth; c++) {
          const start = (n * channels + Math.floor(o / perGroup) * depth + c) * plane;
          for (const tap of taps) sum += w[(o * depth + c) * taken + tap.kernel]! * x[start + tap.position]!;
        }
        y[(n * filters + o) * spread + output] = sum;
      }
    }
  });
  return [filled(only(out), (i) => y[i]!)];
}

/**
 * Conv's adjoint: each input element spreads the kernel over the output (ConvTranspose, since version 1). The
 * weight is `[channels, filters / group, …kernel]`, the first two the other way round from Conv's: it is the
 * weight of the Conv whose gradient this would be.
 */
export function ConvTranspose(at: Site, out: readonly Static[]) {
  const [batch, channels, ...image] = at.shape(0) as [number, number, ...number[]];
  const [, perGroup, ...kernel] = at.shape(1) as [number, number, ...number[]];
  const [, filters, ...spatial] = only(out).shape as [number, number, ...number[]];
  const ones = image.map(() => 1);
  // Seen from its output, the input's positions are those of a Conv over that output.
  const window: Window = {
    kernel,
    strides: at.ints("strides", ones),
    dilations: at.ints("dilations", ones),
    pads: padsOfTranspose(at),
    out: image,
  };
  const [x, w] = [numbers(at.need(0)), numbers(at.need(1))];
  const bias = at.has(2) ? numbers(at.need(2)) : undefined;
  const depth = channels / at.int("group", 1);
  const [plane, taken, spread] = [sizeOf(image), sizeOf(kernel), sizeOf(spatial)];
  const y = Float64Array.from(
    { length: batch * filters * spread },
    (_, i) => bias?.[Math.floor(i / spread) % filters] ?? 0,
  );
  slide(window, spatial, (input, taps) => {
    for (let n = 0; n < batch; n++) {
      for (let c = 0; c < channels; c++) {
        const value = x[(n * channels + c) * plane + input]!;
        for (let o = 0; o < perGroup; o++) {
          const start = (n * filters + Math.floor(c / depth) * perGroup + o) * spread;
          for (const tap of taps)
            y[start + tap.position]! += value * w[(c * perGroup + o) * taken + tap.kernel]!;
        }
      }
    }
  });
  return [filled(only(out), (i) => y[i]!)];
}

/**
 * Per plane (batch × channel) and output position: one number from the taps. `whole` is what a mean divides
 * by: the taps, or with `count_include_pad` every kernel place over image or padding (AveragePool, since
 * version 7).
 */
function pool(
  at: Site,
  like: Static,
  reduce: (plane: number, taps: readonly Tap[], whole: number) => number,
) {
  const window = windowOf(at, at.ints("kernel_shape"));
  const image = at.shape(0).slice(2);
  const planes = at.shape(0)[0]! * at.shape(0)[1]!;
  const spread = sizeOf(window.out);
  const y = new Float64Array(planes * spread);
  slide(window, image, (output, taps) => {
    const whole = at.int("count_include_pad", 0) ? covered(window, image, output) : taps.length;
    for (let plane = 0; plane < planes; plane++) {
      y[plane * spread + output] = reduce(plane * sizeOf(image), taps, whole);
    }
  });
  return filled(like, (i) => y[i]!);
}

/** Kernel places over the image or its padding; what `ceil_mode` adds beyond the padding does not count. */
function covered(window: Window, image: readonly number[], output: number): number {
  const steps = stridesOf(window.out);
  return image.reduce((product, size, axis) => {
    const o = Math.floor(output / steps[axis]!) % window.out[axis]!;
    const [before, after] = window.pads[axis]!;
    let count = 0;
    for (let k = 0; k < window.kernel[axis]!; k++) {
      if (o * window.strides[axis]! + k * window.dilations[axis]! < size + before + after) count++;
    }
    return product * count;
  }, 1);
}

/**
 * The first of equal maxima in row-major order, as onnxruntime answers. Places count through the whole
 * tensor, batch and channels included, and know nothing of padding (MaxPool, output `Indices`, since version
 * 8).
 */
export const MaxPool: EvaluateRule = (at, out) => {
  const x = elements(at.need(0));
  const best = (start: number, taps: readonly Tap[]) =>
    taps.reduce(
      (held, { position }) => (x[start + position]! > x[start + held]! ? position : held),
      taps[0]?.position ?? 0,
    );
  const values = pool(at, out[0]!, (start, taps) => Number(x[start + best(start, taps)]!));
  if (at.node.outputs.length < 2) return [values];
  // Column-major places are only asked for by storage_order 1.
  const swap = at.int("storage_order", 0) !== 0;
  const places = pool(
    at,
    out[1]!,
    (start, taps) => start + (swap ? columnMajor(at, best(start, taps)) : best(start, taps)),
  );
  return [values, places];
};

/** The same place counted with the first spatial axis running fastest; planes still follow one another. */
function columnMajor(at: Site, position: number): number {
  const image = at.shape(0).slice(2);
  const steps = stridesOf(image);
  let scale = 1;
  return image.reduce((sum, size, axis) => {
    const coordinate = Math.floor(position / steps[axis]!) % size;
    const place = sum + coordinate * scale;
    scale *= size;
    return place;
  }, 0);
}

/** Dilations came with version 19; the window's arithmetic does not care. */
export function AveragePool(at: Site, out: readonly Static[]) {
  const x = numbers(at.need(0));
  const mean = (start: number, taps: readonly Tap[], whole: number) =>
    taps.reduce((sum, { position }) => sum + x[start + position]!, 0) / whole;
  return [pool(at, only(out), mean)];
}

/** All spatial axes at once: a pool whose kernel is the image (GlobalAveragePool, since version 1). */
function global(reduce: (values: readonly number[]) => number): EvaluateRule {
  return (at, out) => {
    const x = numbers(at.need(0));
    const plane = sizeOf(at.shape(0).slice(2));
    return [filled(only(out), (i) => reduce(x.slice(i * plane, (i + 1) * plane)))];
  };
}

export const GlobalAveragePool = global((values) => values.reduce((a, b) => a + b, 0) / values.length);
export const GlobalMaxPool = global((values) => values.reduce((a, b) => Math.max(a, b)));
