import type { DType, Static } from "../../ir.ts";
import { levelsOf } from "../../quantised.ts";
import type { Site } from "../../site.ts";
import { productShape } from "../linear.ts";
import * as standard from "../quantise.ts";
import { broadcast, demandFits, demandRank, demandSingle, demandSize, one, sameDtype } from "../rule.ts";
import { joined } from "../shape.ts";

export const QuantizeLinear = standard.QuantizeLinear;
export const DequantizeLinear = standard.DequantizeLinear;

/** A·dequantised(B)ᵀ, where B's rows are `[N, blocks, bytes per block]` (com.microsoft, MatMulNBits). */
export function MatMulNBits(at: Site) {
  demandRank(at, 0, 1, Number.POSITIVE_INFINITY);
  const [k, n] = [at.int("K"), at.int("N")];
  demandSize(at, "inner size of input 0", { expected: k, got: at.shape(0).at(-1) ?? 0 });
  return one(at.dtype(0), at.shape(0).with(-1, n));
}

/** A in float, B in levels with its scale and zero point, a bias; the product in float. */
export function DynamicQuantizeMatMul(at: Site) {
  for (const index of [2, 3]) standard.demandPerColumn(at, index, at.shape(1));
  demandFits(at, 4, productShape(at));
  return one(at.dtype(0), productShape(at));
}

/** A and B in levels, then their scales, their zero points and a bias; the product in float. */
export function MatMulIntegerToFloat(at: Site) {
  for (const index of [2, 4]) standard.demandPerRow(at, index, at.shape(0));
  for (const index of [3, 5]) standard.demandPerColumn(at, index, at.shape(1));
  demandFits(at, 6, productShape(at));
  return one(at.dtype(2), productShape(at));
}

/** Elementwise on levels: A, B and the result, each with its scale and zero point. */
export function QLinearAdd(at: Site) {
  sameDtype(at, [0, 3, ...(at.has(7) ? [7] : [])]);
  return one(levels(at, 0), broadcast(at, [at.shape(0), at.shape(3)]));
}
export const QLinearMul = QLinearAdd;

/** X and Y, each with its scale and zero point; the shape stays. */
export function QLinearSigmoid(at: Site) {
  return one(levels(at, 0), at.shape(0));
}
export const QLinearLeakyRelu = QLinearSigmoid;

/** Spatial axes stay with size 1; they are the last ones, or those between batch and channels. */
export function QLinearGlobalAveragePool(at: Site) {
  const shape = at.shape(0);
  const channels = at.int("channels_last", 0) ? shape.length - 1 : 1;
  return one(
    levels(at, 0),
    shape.map((size, axis) => (axis === 0 || axis === channels ? size : 1)),
  );
}

/** Scale and zero point of the result, then each part with its own: onnxruntime dies where one is missing. */
export function QLinearConcat(at: Site) {
  const count = Math.floor((at.inputCount - 2) / 3);
  if (count < 1 || at.inputCount !== 2 + 3 * count)
    throw at.fault("bad-input", "inputs", { expected: "2, and 3 per part", got: `${at.inputCount}` });
  const parts = Array.from({ length: count }, (_, i) => 2 + 3 * i);
  const [scales, zeros] = [
    [0, ...parts.map((x) => x + 1)],
    [1, ...parts.map((x) => x + 2)],
  ];
  sameDtype(at, scales);
  sameDtype(at, [...zeros, ...parts]);
  for (const index of [...scales, ...zeros]) demandSingle(at, index);
  return one(levels(at, 1), joined(at, parts));
}

/** Levels where the result has a zero point (input 8), else float. */
export function QGemm(at: Site): readonly Static[] {
  const turned = (index: number, turn: number): readonly [number, number] => {
    const shape = at.shape(index);
    demandSize(at, `rank of input ${index}`, { expected: 2, got: shape.length });
    return turn ? [shape[1]!, shape[0]!] : [shape[0]!, shape[1]!];
  };
  const [a, b] = [turned(0, at.int("transA", 0)), turned(3, at.int("transB", 0))];
  demandSize(at, "inner size of input 3", { expected: a[1], got: b[0] });
  return one(at.has(8) ? levels(at, 8) : "float32", [a[0], b[1]]);
}

function levels(at: Site, index: number): DType {
  const dtype = at.dtype(index);
  if (levelsOf(dtype)) return dtype;
  throw at.fault("unsupported", `input ${index}`, { expected: "uint8 or int8", got: dtype });
}
