import { single } from "../rule.ts";

/** x·σ(α·x). */
export const QuickGelu = single((at, ops) => {
  const x = at.input(0);
  return ops.mul(x, ops.op("Sigmoid", [ops.scale(x, at.float("alpha", 1.702))]));
});
