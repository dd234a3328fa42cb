import type { Site } from "../site.ts";
import { numbers } from "../tensor.ts";
import { one } from "./rule.ts";

/** How one axis is resampled: what it has, what it gets, by which scale, and from which part (0…1) of it. */
export type Resampling = {
  readonly axis: number;
  readonly from: number;
  readonly to: number;
  readonly scale: number;
  readonly start: number;
  readonly end: number;
};

/**
 * Sizes come from input 3, else from scales: floor(size·scale) (Resize, since version 11; 10 has
 * scales alone).
 */
export function Resize(at: Site) {
  return one(at.dtype(0), resized(at, resizings(at)));
}

/** As Resize with scales, which were an attribute before version 9 (Upsample, since version 7). */
export const Upsample = Resize;

function resized(at: Site, axes: readonly Resampling[]): readonly number[] {
  const out = [...at.shape(0)];
  for (const { axis, to } of axes) out[axis] = to;
  return out;
}

/** Every axis that a Resize or Upsample names; scales, sizes and region must be known. */
export function resizings(at: Site): readonly Resampling[] {
  const shape = at.shape(0);
  const all = shape.map((_, axis) => axis);
  const axes = at.ints("axes", all).map((axis) => at.axis(axis, shape.length));
  const sizes = at.node.op === "Resize" && given(at, 3) ? at.numbers(3) : undefined;
  const scales = sizes ? kept(at, axes, sizes) : scalesOf(at);
  const counts = sizes ?? scales;
  if (counts.length !== axes.length)
    throw at.fault("bad-input", "sizes or scales", { expected: `${axes.length}`, got: `${counts.length}` });
  const region = regionOf(at, axes.length);
  return axes.map((axis, i) => {
    const [from, scale] = [shape[axis]!, scales[i]!];
    if (!(scale > 0)) throw at.fault("bad-input", "scale", { expected: "more than 0", got: `${scale}` });
    const [start, end] = [region[i]!, region[i + axes.length]!];
    // In float32, as implementations have it: 0.7 of 10 is 7 there, but 6.9999999 in doubles. The standard's
    // text has a region's share in this product; its shape inference and onnxruntime do not.
    const grown = Math.fround(from * Math.fround(scale));
    return { axis, from, to: sizes ? Math.round(from * scale) : Math.floor(grown), scale, start, end };
  });
}

/** Whether an optional input is there and not empty. */
function given(at: Site, index: number): boolean {
  return at.has(index) && at.shape(index)[0] !== 0;
}

function scalesOf(at: Site): readonly number[] {
  if (at.node.op === "Resize" && at.opset >= 11) return at.numbers(2);
  if (at.has(1)) return at.numbers(1);
  const attribute = at.node.attributes.get("scales");
  if (attribute?.kind === "floats") return attribute.value;
  throw at.fault("bad-input", "attribute scales", { expected: "floats", got: attribute?.kind ?? "nothing" });
}

/** Starts and then ends, as shares of each axis: the whole, unless the mode crops (since version 11). */
function regionOf(at: Site, count: number): readonly number[] {
  const whole = [...Array<number>(count).fill(0), ...Array<number>(count).fill(1)];
  if (at.string("coordinate_transformation_mode", "half_pixel") !== "tf_crop_and_resize") return whole;
  if (!given(at, 1)) return whole;
  const region = numbers(at.need(1));
  if (region.length === 2 * count) return region;
  throw at.fault("bad-input", "input 1 (roi)", { expected: `${2 * count} values`, got: `${region.length}` });
}

/**
 * Scales that sizes ask for; with an aspect ratio to keep, the least or the largest for all (since
 * version 18).
 */
function kept(at: Site, axes: readonly number[], sizes: readonly number[]): readonly number[] {
  const scales = sizes.map((size, i) => size / at.shape(0)[axes[i]!]!);
  const policy = at.string("keep_aspect_ratio_policy", "stretch");
  if (policy === "stretch") return scales;
  return scales.fill(policy === "not_larger" ? Math.min(...scales) : Math.max(...scales));
}
