import { type DType, type Static, sizeOf } from "../ir.ts";
import { dtypeOf } from "../onnx/dtype.ts";
import { levelsOf, spreadOf } from "../quantised.ts";
import type { Site } from "../site.ts";
import { windowOf } from "./convolve.ts";
import { productShape } from "./linear.ts";
import { demandFits, demandShape, demandSingle, demandSize, one, sameDtype } from "./rule.ts";

/** (x − zero)·scale, in `output_dtype` (since version 23) or the scale's dtype. */
export function DequantizeLinear(at: Site) {
  if (at.dtype(0) !== "int32") levels(at, at.dtype(0));
  if (at.has(2)) sameDtype(at, [0, 2]);
  demandScales(at);
  const asked = at.int("output_dtype", 0);
  return one(asked ? dtypeOf(asked, "DequantizeLinear") : at.dtype(1), at.shape(0));
}

/** The zero point's dtype, else `output_dtype` (since version 21), else uint8. */
export function QuantizeLinear(at: Site) {
  demandScales(at);
  const precision = at.int("precision", 0);
  if (precision !== 0 && dtypeOf(precision, "QuantizeLinear") !== at.dtype(1))
    throw at.fault("unsupported", "attribute precision", {
      expected: `the scale's, ${at.dtype(1)}`,
      got: dtypeOf(precision, "QuantizeLinear"),
    });
  const asked = at.int("output_dtype", 0);
  const dtype = at.has(2) ? at.dtype(2) : asked ? dtypeOf(asked, "QuantizeLinear") : "uint8";
  return one(levels(at, dtype), at.shape(0));
}

/** Scales per tensor, per index of the axis or per block; zero points lie as the scales do. */
function demandScales(at: Site): void {
  const [shape, scale] = [at.shape(0), at.shape(1)];
  if (at.has(2)) demandSize(at, "zero points", { expected: sizeOf(scale), got: sizeOf(at.shape(2)) });
  if (sizeOf(scale) !== 1) demandShape(at, 2, scale);
  if (scale.every((size) => size === 1)) return;
  const axis = at.axis(at.int("axis", 1), shape.length);
  if (spreadOf(scale, shape, axis).kind === "axis") return;
  const fits = scale.length === shape.length && scale.every((size, d) => d === axis || size === shape[d]);
  const block = at.int("block_size", 0);
  const count = block === 0 ? scale[axis]! : Math.ceil(shape[axis]! / block);
  if (fits && count === scale[axis]! && count > 0 && count <= shape[axis]!) return;
  throw at.fault("bad-input", "scale", {
    expected: `one, ${shape[axis]} along axis ${axis}, or one per block of it`,
    got: `[${scale}]`,
  });
}

/** A dtype that holds levels; the 16-bit and 8-bit float ones are not among those we compute with. */
function levels(at: Site, dtype: DType): DType {
  if (levelsOf(dtype)) return dtype;
  throw at.fault("unsupported", "quantised dtype", { expected: "uint8 or int8", got: dtype });
}

/** Outputs: the tensor in uint8, its scale and its zero point. */
export function DynamicQuantizeLinear(at: Site) {
  if (at.dtype(0) !== "float32")
    throw at.fault("unsupported", "input 0", { expected: "float32", got: at.dtype(0) });
  return [
    { dtype: "uint8" as const, shape: at.shape(0) },
    { dtype: "float32" as const, shape: [] },
    { dtype: "uint8" as const, shape: [] },
  ];
}

/** Always int32, so that 8-bit products can be summed without loss (MatMulInteger, since version 10). */
export function MatMulInteger(at: Site) {
  // The operands may differ in sign, so only their shapes must fit.
  for (const index of [0, 1]) levels(at, at.dtype(index));
  demandPerRow(at, 2, at.shape(0));
  demandPerColumn(at, 3, at.shape(1));
  return one("int32", productShape(at));
}

/** Levels of a product, in the dtype of the result's zero point. */
export function QLinearMatMul(at: Site) {
  for (const index of [1, 2]) demandPerRow(at, index, at.shape(0));
  for (const index of [4, 5]) demandPerColumn(at, index, at.shape(3));
  for (const index of [6, 7]) demandSingle(at, index);
  return one(levels(at, at.dtype(7)), productShape(at, 3));
}

/** A scale or zero point of a left operand: one, or one per row. */
export function demandPerRow(at: Site, index: number, shape: readonly number[]): void {
  if (!at.has(index) || (at.shape(index).length <= 1 && sizeOf(at.shape(index)) === 1)) return;
  if (at.shape(index).length === 1 && at.shape(index)[0] === shape.at(-2)) return;
  if (shape.length > 1) demandFits(at, index, shape.with(-1, 1));
  else demandSingle(at, index);
}

/** A scale or zero point of a right operand: one, or one per column. */
export function demandPerColumn(at: Site, index: number, shape: readonly number[]): void {
  if (shape.length > 1) demandFits(at, index, shape.with(-2, 1));
  else demandSingle(at, index);
}

export function ConvInteger(at: Site) {
  return one("int32", convolved(at, 1));
}

/** Inputs: x, its scale and zero point, the same for w and y, and a bias in int32. */
export function QLinearConv(at: Site) {
  if (at.has(8)) demandSize(at, "bias", { expected: at.shape(3)[0]!, got: sizeOf(at.shape(8)) });
  return one(levels(at, at.dtype(7)), convolved(at, 3));
}

/** The shape of a convolution of the first input with the weight `[filters, channels / group, …kernel]`. */
function convolved(at: Site, weight: number): Static["shape"] {
  const [x, w] = [at.shape(0), at.shape(weight)];
  if (x.length < 3) throw at.fault("bad-input", "rank", { expected: "3 or more", got: `${x.length}` });
  demandSize(at, "rank of the weight", { expected: x.length, got: w.length });
  const group = at.int("group", 1);
  demandSize(at, "input channels", { expected: w[1]! * group, got: x[1]! });
  demandSize(at, "output channels over groups", { expected: 0, got: w[0]! % group });
  return [x[0]!, w[0]!, ...windowOf(at, w.slice(2)).out];
}
