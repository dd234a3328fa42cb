import { single } from "./rule.ts";

/** x where x > λ or x < −λ, moved towards 0 by `bias`; else 0 (ONNX, Shrink). */
export const Shrink = single((at, ops) => {
  const x = at.input(0);
  const [bias, lambda] = [at.float("bias", 0), at.float("lambd", 0.5)];
  const high = ops.gate(ops.op("Greater", [x, ops.number(lambda, x)]), ops.sub(x, ops.number(bias, x)));
  // Asked first, as in the standard: with λ < 0 both may hold.
  const below = ops.op("Less", [x, ops.number(-lambda, x)]);
  return ops.where(below, ops.add(x, ops.number(bias, x)), high);
});

/** max(0, x) + min(0, α(e^(x/α) − 1)): an Elu whose slope has no step at 0 (Barron 2017). */
export const Celu = single((at, ops) => {
  const alpha = at.float("alpha", 1);
  return ops.scale(ops.op("Elu", [ops.scale(at.input(0), 1 / alpha)], { alpha: { float: 1 } }), alpha);
});

/** γ times an Elu with the constants of Klambauer et al. 2017, section 2. */
export const Selu = single((at, ops) => {
  const alpha = at.float("alpha", 1.6732632423543772);
  return ops.scale(
    ops.op("Elu", [at.input(0)], { alpha: { float: alpha } }),
    at.float("gamma", 1.0507009873554805),
  );
});

/** x where x > α, else 0. */
export const ThresholdedRelu = single((at, ops) => {
  const x = at.input(0);
  return ops.gate(ops.op("Greater", [x, ops.number(at.float("alpha", 1), x)]), x);
});

/** x·σ(αx) (Swish, since version 24). */
export const Swish = single((at, ops) => {
  const x = at.input(0);
  return ops.mul(x, ops.op("Sigmoid", [ops.scale(x, at.float("alpha", 1))]));
});

export const Tan = single((at, ops) => {
  const x = at.input(0);
  return ops.div(ops.op("Sin", [x]), ops.op("Cos", [x]));
});

/** The elementwise mean of any number of inputs. */
export const Mean = single((at, ops) => ops.scale(at.node.inputs.reduce(ops.add), 1 / at.node.inputs.length));
