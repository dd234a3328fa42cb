import type { Site } from "../site.ts";
import { one } from "./rule.ts";

/**
 * Sizes come from input 3, else from scales: floor(size·scale) (Resize, since version 11; 10 has
 * scales alone).
 */
export function Resize(at: Site) {
  const shape = at.shape(0);
  const axes = at
    .ints(
      "axes",
      shape.map((_, axis) => axis),
    )
    .map((axis) => at.axis(axis, shape.length));
  const sizes = at.has(3) && at.shape(3)[0] !== 0 ? at.numbers(3) : undefined;
  const scales = sizes ? kept(at, axes, sizes) : at.numbers(at.opset < 11 ? 1 : 2);
  const out = [...shape];
  for (const [i, axis] of axes.entries()) {
    const grown = shape[axis]! * scales[i]!;
    out[axis] = sizes ? Math.round(grown) : Math.floor(grown);
  }
  return one(at.dtype(0), out);
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
