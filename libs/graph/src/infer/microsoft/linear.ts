import type { Site } from "../../site.ts";
import { broadcast, demandSize, one, sameDtype } from "../rule.ts";

export { Conv as FusedConv } from "../convolve.ts";
export { Gemm as FusedGemm } from "../linear.ts";

/**
 * How FusedMatMul reads an operand: which of its axes comes where, and its shape then. Turned in its batches,
 * the operand's first axis stands before them and takes the place next to the last.
 */
export function fusedOperand(
  at: Site,
  index: number,
): { order: readonly number[]; shape: readonly number[] } {
  const [side, rank] = [index === 0 ? "A" : "B", at.shape(index).length];
  const axes = Array.from({ length: rank }, (_, axis) => axis);
  if (rank < 2) return { order: axes, shape: at.shape(index) };
  const batched = at.int(`transBatch${side}`, 0) !== 0;
  const placed = batched ? [...axes.slice(1, -1), 0, rank - 1] : axes;
  const turned = at.int(`trans${side}`, 0) !== 0;
  const order = turned ? [...placed.slice(0, -2), placed[rank - 1]!, placed[rank - 2]!] : placed;
  return { order, shape: order.map((axis) => at.shape(index)[axis]!) };
}

export function FusedMatMul(at: Site) {
  const [a, b] = [fusedOperand(at, 0).shape, fusedOperand(at, 1).shape];
  if (a.length === 0 || b.length === 0) throw at.fault("bad-input", "input", { expected: "rank 1 or more" });
  const left = a.length === 1 ? [1, ...a] : a;
  const right = b.length === 1 ? [...b, 1] : b;
  demandSize(at, "rows of input 1", { expected: left.at(-1)!, got: right.at(-2)! });
  const shape = broadcast(at, [left.slice(0, -2), right.slice(0, -2)]);
  if (a.length > 1) shape.push(left.at(-2)!);
  if (b.length > 1) shape.push(right.at(-1)!);
  return one(sameDtype(at, [0, 1]), shape);
}

export const TransposeMatMul = FusedMatMul;
