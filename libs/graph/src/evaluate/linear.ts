import { equationOf } from "../infer/linear.ts";
import type { Static } from "../ir.ts";
import type { Site } from "../site.ts";
import { numbers, stridesOf } from "../tensor.ts";
import { filled, only, positions, stretched } from "./rule.ts";

/**
 * The textbook triple loop, in doubles. Vectors gain an axis that the result loses again, and leading axes
 * broadcast: the standard refers to numpy.matmul and adds nothing (MatMul, since version 13).
 */
export function MatMul(at: Site, out: readonly Static[]) {
  const [a, b] = [at.shape(0), at.shape(1)];
  const left = a.length === 1 ? [1, ...a] : a;
  const right = b.length === 1 ? [...b, 1] : b;
  const [rows, inner, columns] = [left.at(-2)!, left.at(-1)!, right.at(-1)!];
  const full = only(out).shape;
  const batch = full.slice(0, full.length - (a.length > 1 ? 1 : 0) - (b.length > 1 ? 1 : 0));
  const [startA, startB] = [starts(left, batch), starts(right, batch)];
  const [x, y] = [numbers(at.need(0)), numbers(at.need(1))];
  const product = (i: number) => {
    const block = Math.floor(i / (rows * columns));
    const row = Math.floor(i / columns) % rows;
    let sum = 0;
    for (let k = 0; k < inner; k++) {
      sum += x[startA[block]! + row * inner + k]! * y[startB[block]! + k * columns + (i % columns)]!;
    }
    return sum;
  };
  return [filled(only(out), product)];
}

/** Where each broadcast batch's matrix starts. */
function starts(shape: readonly number[], batch: readonly number[]): Float64Array {
  const size = shape.at(-2)! * shape.at(-1)!;
  return stretched(shape.slice(0, -2), batch).map((block) => block * size);
}

/** alpha·A'·B' + beta·C, where C broadcasts one way, to the product (Gemm, since version 7). */
export function Gemm(at: Site, out: readonly Static[]) {
  const { shape } = only(out);
  const [rows, columns] = [shape[0]!, shape[1]!];
  const a = matrix(at, 0, at.int("transA", 0) !== 0);
  const b = matrix(at, 1, at.int("transB", 0) !== 0);
  const c = at.has(2) ? numbers(at.need(2)) : undefined;
  const fromC = at.has(2) ? stretched(at.shape(2), [rows, columns]) : undefined;
  const [alpha, beta] = [at.float("alpha", 1), at.float("beta", 1)];
  const element = (i: number) => {
    const row = Math.floor(i / columns);
    let sum = 0;
    for (let k = 0; k < a.columns; k++) sum += a.at(row, k) * b.at(k, i % columns);
    return alpha * sum + (c && fromC ? beta * c[fromC[i]!]! : 0);
  };
  return [filled(only(out), element)];
}

/** An operand read as the product sees it; nothing is transposed in memory. */
function matrix(at: Site, index: number, transposed: boolean) {
  const [rows, columns] = at.shape(index) as [number, number];
  const x = numbers(at.need(index));
  return {
    columns: transposed ? rows : columns,
    at: (row: number, column: number) => x[transposed ? column * columns + row : row * columns + column]!,
  };
}

/**
 * The sum over every combination of the letters that the result does not have: numpy.einsum's definition,
 * which Einsum (since version 12) refers to. No order of contraction is sought; a twin may be slow.
 */
export function Einsum(at: Site, out: readonly Static[]) {
  const { terms, result, sizes } = equationOf(at);
  const summed = [...sizes.keys()].filter((letter) => !result.includes(letter));
  const inputs = terms.map((_, index) => numbers(at.need(index)));
  const starts = terms.map((term, index) => along(at, { term, index, letters: [...result], sizes }));
  const members = terms.map((term, index) => along(at, { term, index, letters: summed, sizes }));
  const element = (i: number) => {
    let sum = 0;
    for (let m = 0; m < members[0]!.length; m++)
      sum += inputs.reduce((product, x, term) => product * x[starts[term]![i]! + members[term]![m]!]!, 1);
    return sum;
  };
  return [filled(only(out), element)];
}

/**
 * Where one term's elements lie for each combination of the given letters; a repeated letter is a
 * diagonal.
 */
function along(
  at: Site,
  walk: { term: string; index: number; letters: readonly string[]; sizes: ReadonlyMap<string, number> },
): Float64Array {
  const shape = at.shape(walk.index);
  const steps = stridesOf(shape);
  const strides = walk.letters.map((letter) =>
    [...walk.term].reduce(
      (sum, own, axis) => sum + (own === letter && shape[axis] !== 1 ? steps[axis]! : 0),
      0,
    ),
  );
  return positions(
    walk.letters.map((letter) => walk.sizes.get(letter) ?? 1),
    strides,
  );
}
