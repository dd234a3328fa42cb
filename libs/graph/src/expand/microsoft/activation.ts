import type { Ops } from "../../ops.ts";
import { single } from "../rule.ts";

/** x·σ(α·x). */
export const QuickGelu = single((at, ops) => {
  const x = at.input(0);
  return ops.mul(x, ops.op("Sigmoid", [ops.scale(x, at.float("alpha", 1.702))]));
});

/** x·Φ(x). The standard has a Gelu too, but only since version 20, and graphs keep theirs. */
export const Gelu = single((at, ops) => gelu(ops, at.input(0)));

export const BiasGelu = single((at, ops) => gelu(ops, ops.add(at.input(0), at.input(1))));

/** Gelu's approximation by tanh (Hendrycks and Gimpel 2016, section 2), after an optional bias. */
export const FastGelu = single((at, ops) => {
  const x = at.has(1) ? ops.add(at.input(0), at.input(1)) : at.input(0);
  const cubic = ops.add(ops.number(1, x), ops.scale(ops.mul(x, x), 0.044715));
  const inner = ops.scale(ops.mul(x, cubic), Math.sqrt(2 / Math.PI));
  return ops.mul(ops.scale(x, 0.5), ops.add(ops.op("Tanh", [inner]), ops.number(1, x)));
});

/** X `[N, S, C]` plus bias `[C]` plus skip `[N, S, C]`. */
export const BiasAdd = single((at, ops) => ops.add(ops.add(at.input(0), at.input(1)), at.input(2)));

/** Of X `[N, S, 2C]` plus bias `[2C]`, the first half times the Gelu of the second. */
export const BiasSplitGelu = single((at, ops) => {
  const x = ops.add(at.input(0), at.input(1));
  const axis = ops.shape(x).length - 1;
  const size = ops.shape(x)[axis]!;
  const half = (from: number) => ops.slice(x, { axes: [axis], starts: [from], ends: [from + size / 2] });
  return ops.mul(half(0), gelu(ops, half(size / 2)));
});

/** x·Φ(x), Φ being the normal distribution's cumulative function. */
function gelu(ops: Ops, x: string): string {
  const erf = ops.op("Erf", [ops.scale(x, Math.SQRT1_2)]);
  return ops.mul(ops.scale(x, 0.5), ops.add(erf, ops.number(1, x)));
}
