import { factors, filtered, spread } from "../expand/quantise.ts";
import { QuantizeLinear as quantised } from "../infer/quantise.ts";
import type { Node } from "../ir.ts";
import type { Ops } from "../ops.ts";
import { levelsOf } from "../quantised.ts";
import { Conv } from "./convolution.ts";
import { MatMul } from "./linear.ts";
import { Adjoint, type GradientRule } from "./rule.ts";

// Rounding has slope 0 almost everywhere; a gradient passes it as if it were not there, where the value did
// not saturate (straight-through estimator: Bengio et al. 2013, arXiv 1308.3432, section 2.1). The forward
// keeps its levels. The gradient of a level is in float. Scales and zero points count as constants: through
// a quantiser and what undoes it, theirs would all but cancel.

/** dx = dlevel / scale where round(x / scale) + zero was a level; 0 where it saturated. */
export const QuantizeLinear: GradientRule = (site, ops) => [
  () => {
    const scale = spread(site, ops, 1);
    const rounded = ops.op("Round", [ops.div(ops.cast(site.input(0), site.dtype(1)), scale)]);
    const level = site.has(2) ? ops.add(rounded, spread(site, ops, 2)) : rounded;
    const [low, high] = levelsOf(quantised(site)[0]!.dtype)!;
    const kept = ops.op("Clip", [level, ops.number(low, level), ops.number(high, level)]);
    return ops.gate(ops.op("Equal", [level, kept]), ops.div(site.dy, scale));
  },
];

/** The range is that of the values, so none of them saturates by more than the rounding of the zero point. */
export const DynamicQuantizeLinear: GradientRule = (site, ops) => [
  // The second output is the scale.
  () => ops.div(site.dy, site.node.outputs[1]!),
];

/** dlevel = dy·scale. */
export const DequantizeLinear: GradientRule = (site, ops) => [
  () => ops.mul(ops.cast(site.dy, site.dtype(1)), spread(site, ops, 1)),
];

/** Those of the product of the operands less their zero points, in float. */
export const MatMulInteger: GradientRule = (site, ops) =>
  MatMul(like(site, ops, ["MatMul", factors(site, ops)]), ops);

export const ConvInteger: GradientRule = (site, ops) =>
  Conv(like(site, ops, ["Conv", filtered(site, ops)]), ops).slice(0, 2);

/** The same node with another operator over other operands. */
function like(site: Adjoint, { build }: Ops, [op, inputs]: readonly [Node["op"], Node["inputs"]]): Adjoint {
  return new Adjoint({ ...site.node, op, inputs }, build.known, site);
}
