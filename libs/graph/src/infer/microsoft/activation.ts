import type { Site } from "../../site.ts";
import { demandSize, one, same } from "../rule.ts";

export const Gelu = same;
export const QuickGelu = same;
export const BiasGelu = same;
export const FastGelu = same;
export const BiasAdd = same;

/** Half of the last axis is left. */
export function BiasSplitGelu(at: Site) {
  const shape = at.shape(0);
  const size = shape.at(-1) ?? 0;
  demandSize(at, "remainder of the last axis by 2", { expected: 0, got: size % 2 });
  return one(at.dtype(0), [...shape.slice(0, -1), size / 2]);
}
