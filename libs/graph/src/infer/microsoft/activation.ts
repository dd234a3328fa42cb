import type { Site } from "../../site.ts";
import { demandFits, demandRank, demandSize, one, same } from "../rule.ts";

export const Gelu = same;
export const QuickGelu = same;

/** Biases are as long as the last axis, skips as large as the input; neither widens it. */
export function BiasGelu(at: Site) {
  for (const index of [1, 2]) demandFits(at, index, at.shape(0));
  return same(at);
}
export const FastGelu = BiasGelu;
export const BiasAdd = BiasGelu;

/** Half of the last axis is left. */
export function BiasSplitGelu(at: Site) {
  demandRank(at, 0, 1, Number.POSITIVE_INFINITY);
  const shape = at.shape(0);
  demandFits(at, 1, shape);
  const size = shape.at(-1) ?? 0;
  demandSize(at, "remainder of the last axis by 2", { expected: 0, got: size % 2 });
  return one(at.dtype(0), [...shape.slice(0, -1), size / 2]);
}
