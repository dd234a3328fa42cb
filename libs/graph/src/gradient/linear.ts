import { sizeOf } from "../ir.ts";
import type { Ops } from "../ops.ts";
import { range, sameShape } from "../ops.ts";
import type { Adjoint, GradientRule } from "./rule.ts";

/**
 * Y = A·B for any ranks (numpy.matmul): dA = dY·Bᵀ and dB = Aᵀ·dY. A frozen B is transposed before the run:
 * while the graph is built or, if it is large, when an engine loads it (builder.ts, leftToLoad). Where B is
 * one matrix and A a stack, dB is one product over all rows rather than a sum of many.
 */
export const MatMul: GradientRule = (site, ops) => {
  const [a, b] = [site.input(0), site.input(1)];
  const [shapeA, shapeB] = [ops.shape(a), ops.shape(b)];
  // A vector is a matrix with one row (left) or one column (right), which the result then lacks.
  const left = shapeA.length === 1 ? ops.reshape(a, [1, ...shapeA]) : a;
  const right = shapeB.length === 1 ? ops.reshape(b, [...shapeB, 1]) : b;
  const dy = ops.reshape(site.dy, productShape(ops.shape(left), ops.shape(right)));
  return [
    () => ops.reshape(gradientLeft(ops, dy, [left, right]), shapeA),
    () => ops.reshape(gradientRight(ops, dy, [left, right]), shapeB),
  ];
};

function gradientLeft(ops: Ops, dy: string, [a, b]: readonly [string, string]): string {
  return ops.unbroadcast(ops.matmul(dy, ops.swap(b)), ops.shape(a));
}

function gradientRight(ops: Ops, dy: string, [a, b]: readonly [string, string]): string {
  if (ops.shape(b).length === 2) return ops.matmul(ops.swap(rows(ops, a)), rows(ops, dy));
  return ops.unbroadcast(ops.matmul(ops.swap(a), dy), ops.shape(b));
}

/** All leading axes of x as one: [rows, columns]. */
function rows(ops: Ops, x: string): string {
  const shape = ops.shape(x);
  const columns = shape.at(-1)!;
  return ops.reshape(x, [shape.slice(0, -1).reduce((product, size) => product * size, 1), columns]);
}

function productShape(a: readonly number[], b: readonly number[]): readonly number[] {
  const rank = Math.max(a.length, b.length);
  const size = (shape: readonly number[], at: number) => shape[at - rank + shape.length] ?? 1;
  const stack = range(rank - 2).map((at) => (size(a, at) === 1 ? size(b, at) : size(a, at)));
  return [...stack, a.at(-2)!, b.at(-1)!];
}

/** Y = α·op(A)·op(B) + β·C, op being an optional transpose. No transposed operand where a constant allows. */
export const Gemm: GradientRule = (site, ops) => {
  const b = site.input(1);
  const dy = () => ops.scale(site.dy, site.float("alpha", 1));
  const [turnA, turnB] = turns(site);
  return [
    // A' = op(A): dA' = dY·op(B)ᵀ. With transB, op(B)ᵀ is B itself.
    () => turned(ops, turnA, ops.matmul(dy(), turnB ? b : ops.swap(b))),
    () => gemmRight(site, ops, dy()),
    () => gemmBias(site, ops),
  ];
};

/** dB = op(A)ᵀ·dY; with transB its transpose, got from whichever side has less to transpose. */
function gemmRight(site: Adjoint, ops: Ops, dy: string): string {
  const [turnA, turnB] = turns(site);
  const a = site.input(0);
  const size = (x: string) => sizeOf(ops.shape(x));
  const direct = (turnA ? 0 : size(a)) + (turnB ? size(site.input(1)) : 0);
  if (turnB && size(dy) + (turnA ? size(a) : 0) < direct)
    return ops.matmul(ops.swap(dy), turned(ops, turnA, a));
  return turned(ops, turnB, ops.matmul(turned(ops, !turnA, a), dy));
}

function turns(site: Adjoint): readonly [boolean, boolean] {
  return [site.int("transA", 0) !== 0, site.int("transB", 0) !== 0];
}

function gemmBias(site: Adjoint, ops: Ops): string {
  const shape = ops.shape(site.input(2));
  const summed = sameShape(ops.shape(site.dy), shape) ? site.dy : ops.unbroadcast(site.dy, shape);
  return ops.scale(summed, site.float("beta", 1));
}

function turned(ops: Ops, turn: boolean, x: string): string {
  return turn ? ops.swap(x) : x;
}
