import type { Site } from "../site.ts";
import { broadcast, demandSize, one, sameDtype } from "./rule.ts";

/**
 * numpy.matmul, to which the standard refers: vectors gain an axis that is dropped again, batches broadcast.
 */
export function MatMul(at: Site) {
  return one(sameDtype(at, [0, 1]), productShape(at));
}

/** The shape of a product of the first input and another one, whatever their dtypes. */
export function productShape(at: Site, second = 1): readonly number[] {
  const [left, right] = [at.shape(0), at.shape(second)];
  if (left.length === 0 || right.length === 0)
    throw at.fault("bad-input", "input", { expected: "rank 1 or more" });
  const a = left.length === 1 ? [1, ...left] : left;
  const b = right.length === 1 ? [...right, 1] : right;
  demandSize(at, `rows of input ${second}`, { expected: a.at(-1)!, got: b.at(-2)! });
  const shape = broadcast(at, [a.slice(0, -2), b.slice(0, -2)]);
  if (left.length > 1) shape.push(a.at(-2)!);
  if (right.length > 1) shape.push(b.at(-1)!);
  return shape;
}

/**
 * A'·B' + C, where C broadcasts one way, to the product (Gemm, since version 7). A C larger than the product
 * would broadcast both ways and give another shape, hence the comparison.
 */
export function Gemm(at: Site) {
  const a = matrix(at, 0, at.int("transA", 0));
  const b = matrix(at, 1, at.int("transB", 0));
  demandSize(at, "inner size of input 1", { expected: a[1], got: b[0] });
  const shape = [a[0], b[1]];
  if (at.has(2) && `${broadcast(at, [shape, at.shape(2)])}` !== `${shape}`)
    throw at.fault("bad-input", "input 2", {
      expected: `a shape that broadcasts to [${shape}]`,
      got: `[${at.shape(2)}]`,
    });
  return one(sameDtype(at, at.has(2) ? [0, 1, 2] : [0, 1]), shape);
}

/** Rows and columns of an operand as the product sees it. */
function matrix(at: Site, index: number, transposed: number): [number, number] {
  const shape = at.shape(index);
  demandSize(at, `rank of input ${index}`, { expected: 2, got: shape.length });
  return transposed ? [shape[1]!, shape[0]!] : [shape[0]!, shape[1]!];
}

/** Sizes of an equation's letters, and the letters of its terms and its result. */
export type Equation = {
  readonly terms: readonly string[];
  readonly result: string;
  readonly sizes: ReadonlyMap<string, number>;
};

/**
 * An Einsum equation (Einsum, since version 12), `...` spelt out in letters of its own: terms whose ellipses
 * differ in rank broadcast at the end, so a shorter one takes the last letters.
 */
export function equationOf(at: Site): Equation {
  const text = at.string("equation").replaceAll(" ", "");
  const [left = "", right] = text.split("->");
  const ranks = left.split(",").map((term, i) => at.shape(i).length - term.replace("...", "").length);
  const dots = left.split(",").map((term, i) => (term.includes("...") ? ranks[i]! : 0));
  const most = Math.max(0, ...dots);
  const spelt = (term: string, count: number) => term.replace("...", HIDDEN.slice(most - count, most));
  const terms = left.split(",").map((term, i) => spelt(term, dots[i]!));
  const sizes = new Map<string, number>();
  for (const [i, term] of terms.entries()) {
    demandSize(at, `rank of input ${i}`, { expected: term.length, got: at.shape(i).length });
    for (const [axis, letter] of [...term].entries()) {
      const [held, size] = [sizes.get(letter) ?? 1, at.shape(i)[axis]!];
      if (held !== 1 && size !== 1) demandSize(at, `size of ${letter}`, { expected: held, got: size });
      sizes.set(letter, Math.max(held, size) === 1 ? 1 : held === 1 ? size : held);
    }
  }
  // Without an arrow: the ellipsis, then letters that occur once, in alphabetical order.
  const all = terms.join("");
  const single = [...new Set(all)].filter((letter) => letter >= "A" && all.split(letter).length === 2).sort();
  const result = right === undefined ? HIDDEN.slice(0, most) + single.join("") : spelt(right, most);
  return { terms, result, sizes };
}

/**
 * Names of the axes an ellipsis stands for, none a letter: sixteen, and no exporter writes so many. They are
 * in order of their codes, and before the letters.
 */
const HIDDEN = "0123456789:;<=>?";

/** A letter that only stands in the result would have no size; such an equation is malformed and gets 1. */
export function Einsum(at: Site) {
  const { result, sizes } = equationOf(at);
  const all = at.node.inputs.map((_, index) => index);
  return one(
    sameDtype(at, all),
    [...result].map((letter) => sizes.get(letter) ?? 1),
  );
}
