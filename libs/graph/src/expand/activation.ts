import { single } from "./rule.ts";

/** x where x > λ or x < −λ, moved towards 0 by `bias`; else 0 (ONNX, Shrink). */
export const Shrink = single((at, ops) => {
  const x = at.input(0);
  const [bias, lambda] = [at.float("bias", 0), at.float("lambd", 0.5)];
  const low = ops.gate(ops.op("Less", [x, ops.number(-lambda, x)]), ops.add(x, ops.number(bias, x)));
  const above = ops.op("Greater", [x, ops.number(lambda, x)]);
  return ops.where(above, ops.sub(x, ops.number(bias, x)), low);
});
