import { nBitsWeight } from "../../evaluate/quantise.ts";
import { type Ops, range } from "../../ops.ts";
import type { Site } from "../../site.ts";
import { tensorOf } from "../../tensor.ts";
import { perColumn, perRow } from "../quantise.ts";
import { single } from "../rule.ts";

/** onnxruntime had these with an axis, and for more types, before the standard did. */
const asStandard = (name: "QuantizeLinear" | "DequantizeLinear") =>
  single((at, ops) => ops.op(name, at.node.inputs, { axis: at.int("axis", 1) }));

export const QuantizeLinear = asStandard("QuantizeLinear");
export const DequantizeLinear = asStandard("DequantizeLinear");

/** B is dequantised here and now: a constant in float that a MatMul, and its gradient, read. */
export const MatMulNBits = single((at, ops) => {
  const product = ops.op("MatMul", [at.input(0), ops.build.constant(nBitsWeight(at), "dequantised")]);
  return at.has(5) ? ops.add(product, at.input(5)) : product;
});

/** A is quantised as it comes (DynamicQuantizeLinear); inputs A, B, B's scale and zero point, bias. */
export const DynamicQuantizeMatMul = single((at, ops) => {
  const [levels, scale, zero] = ops.build.emitMany("DynamicQuantizeLinear", [at.input(0)], { outputs: 3 });
  const sum = integerProduct(ops, [levels!, at.input(1)], [zero!, at.has(3) ? at.input(3) : ""]);
  return biased(at, ops, { y: ops.mul(sum, ops.mul(scale!, perColumn(ops, at.input(2)))), index: 4 });
});

/** Inputs A, B, their scales, their zero points, bias. */
export const MatMulIntegerToFloat = single((at, ops) => {
  const zeros = [4, 5].map((index) => (at.has(index) ? at.input(index) : ""));
  const sum = integerProduct(ops, [at.input(0), at.input(1)], zeros);
  return biased(at, ops, {
    y: ops.mul(sum, ops.mul(perRow(ops, at.input(2)), perColumn(ops, at.input(3)))),
    index: 6,
  });
});

function integerProduct(ops: Ops, operands: readonly string[], zeros: readonly string[]): string {
  const given = zeros.slice(0, zeros.findLastIndex((name) => name !== "") + 1);
  return ops.cast(ops.op("MatMulInteger", [...operands, ...given]), "float32");
}

function biased(at: Site, ops: Ops, { y, index }: { y: string; index: number }): string {
  return at.has(index) ? ops.add(y, at.input(index)) : y;
}

/** Inputs A and B, each with scale and zero point, C (int32, units of α·sa·sb), then those of the result. */
export const QGemm = single((at, ops) => {
  const turned = (index: number, name: string) => {
    return at.int(name, 0) ? ops.transpose(at.input(index), [1, 0]) : at.input(index);
  };
  const product = ops.op("MatMulInteger", [
    turned(0, "transA"),
    turned(3, "transB"),
    at.input(2),
    at.input(5),
  ]);
  const sum = ops.cast(biased(at, ops, { y: product, index: 6 }), "float32");
  const scales = ops.scale(ops.mul(ops.reshape(at.input(1), []), at.input(4)), at.float("alpha", 1));
  if (!at.has(8)) return ops.mul(sum, scales);
  const y = ops.mul(sum, ops.div(scales, at.input(7)));
  return ops.op("QuantizeLinear", [y, ops.number(1, y), at.input(8)]);
});

/** From the float value behind levels to float, and back to levels. */
const binary = (name: string) =>
  single((at, ops) => levels(at, ops, { y: ops.op(name, [real(at, ops, 0), real(at, ops, 3)]), index: 6 }));

export const QLinearAdd = binary("Add");
export const QLinearMul = binary("Mul");

const unary = (emit: (at: Site, ops: Ops, x: string) => string) =>
  single((at, ops) => levels(at, ops, { y: emit(at, ops, real(at, ops, 0)), index: 3 }));

export const QLinearSigmoid = unary((_, ops, x) => ops.op("Sigmoid", [x]));

export const QLinearLeakyRelu = unary((at, ops, x) =>
  ops.op("LeakyRelu", [x], { alpha: { float: at.float("alpha", 0.01) } }),
);

export const QLinearGlobalAveragePool = unary((at, ops, x) => {
  const rank = at.shape(0).length;
  const first = at.int("channels_last", 0) ? 1 : 2;
  return ops.mean(
    x,
    range(rank - 2).map((d) => d + first),
    true,
  );
});

export const QLinearConcat = single((at, ops) => {
  const count = (at.inputCount - 2) / 3;
  const parts = range(count).map((i) => real(at, ops, 2 + 3 * i));
  const y = ops.op("Concat", parts, { axis: at.int("axis") });
  return levels(at, ops, { y, index: 0 });
});

/** The value behind levels at input `index`, whose scale and zero point follow it. */
function real(at: Site, ops: Ops, index: number): string {
  return ops.op("DequantizeLinear", [at.input(index), ...scaling(at, ops, index + 1)]);
}

/** Levels of `y`, with the scale and the zero point at input `index`. */
function levels(at: Site, ops: Ops, { y, index }: { y: string; index: number }): string {
  const [scale, zero = ops.build.constant(tensorOf(at.dtype(0), [], [0]))] = scaling(at, ops, index);
  return ops.op("QuantizeLinear", [y, scale!, zero]);
}

function scaling(at: Site, ops: Ops, index: number): readonly string[] {
  const scale = ops.reshape(at.input(index), []);
  return at.has(index + 1) ? [scale, ops.reshape(at.input(index + 1), [])] : [scale];
}
