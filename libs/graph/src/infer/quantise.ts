import { dtypeOf } from "../onnx/dtype.ts";
import type { Site } from "../site.ts";
import { productShape } from "./linear.ts";
import { one } from "./rule.ts";

/** (x − zero)·scale, in the scale's dtype. */
export function DequantizeLinear(at: Site) {
  return one(at.dtype(1), at.shape(0));
}

/** The zero point's dtype, else `output_dtype` (since version 21), else uint8. */
export function QuantizeLinear(at: Site) {
  const asked = at.int("output_dtype", 0);
  const dtype = at.has(2) ? at.dtype(2) : asked ? dtypeOf(asked, "QuantizeLinear") : "uint8";
  return one(dtype, at.shape(0));
}

/** Outputs: the tensor in uint8, its scale and its zero point. */
export function DynamicQuantizeLinear(at: Site) {
  return [
    { dtype: "uint8" as const, shape: at.shape(0) },
    { dtype: "float32" as const, shape: [] },
    { dtype: "uint8" as const, shape: [] },
  ];
}

/** Always int32, so that 8-bit products can be summed without loss (MatMulInteger, since version 10). */
export function MatMulInteger(at: Site) {
  // The operands may differ in sign, so only their shapes must fit.
  return one("int32", productShape(at));
}
