import { equationOf } from "../infer/linear.ts";
import { type Ops, range } from "../ops.ts";
import type { Site } from "../site.ts";
import { single } from "./rule.ts";

/** A value whose axes are named by letters, each once. */
type Term = { readonly x: string; readonly letters: string };

/**
 * Einsum (since version 12), two terms at a time from the left: letters that both have and a later term or
 * the result wants are batches, those nobody wants any more are summed by a product.
 */
export const Einsum = single((at, ops) => {
  const { terms, result, sizes } = equationOf(at);
  if (new Set(result).size < result.length)
    throw at.fault("unsupported", "attribute equation", { expected: "each letter once in the result" });
  const stretched = (letter: string) => sizes.get(letter) !== 1;
  const distinct = terms.map((letters, i) =>
    narrowed(ops, diagonal(ops, { x: at.input(i), letters }), stretched),
  );
  // A term that lost a letter has no part in it any more: whoever alone still has it sums over it.
  const left = distinct.map(({ letters }) => letters);
  const wanted = (from: number) => new Set(result + left.slice(from).join(""));
  const operands = distinct.map((term, i) =>
    summed(ops, term, new Set(result + left.filter((_, j) => j !== i).join(""))),
  );
  const first = operands[0]!;
  const joined = operands
    .slice(1)
    .reduce((held, term, i) => contracted(ops, [held, term], { result, wanted: wanted(i + 2) }), first);
  return ordered(at, ops, joined, result);
});

/** A letter that names several axes reads their diagonal: every (n + 1)th of the n·n elements. */
function diagonal(ops: Ops, { x, letters }: Term): Term {
  const again = [...letters].findIndex((letter, i) => letters.indexOf(letter) < i);
  if (again < 0) return { x, letters };
  const first = letters.indexOf(letters[again]!);
  const others = range(letters.length).filter((axis) => axis !== first && axis !== again);
  const shape = others.map((axis) => ops.shape(x)[axis]!);
  const size = ops.shape(x)[first]!;
  const last = ops.reshape(ops.transpose(x, [...others, first, again]), [...shape, size * size]);
  const axes = [shape.length];
  const taken = ops.slice(last, { axes, starts: [0], ends: [size * size], steps: [size + 1] });
  return diagonal(ops, {
    x: taken,
    letters: others.map((axis) => letters[axis]!).join("") + letters[first]!,
  });
}

/** Without axes of size 1 that another term stretches: what is left broadcasts by itself. */
function narrowed(ops: Ops, { x, letters }: Term, stretched: (letter: string) => boolean): Term {
  const kept = [...letters].filter((letter, axis) => ops.shape(x)[axis] !== 1 || !stretched(letter));
  const shape = kept.map((letter) => ops.shape(x)[letters.indexOf(letter)]!);
  return { x: ops.reshape(x, shape), letters: kept.join("") };
}

/** Sums over the letters that nobody else has. */
function summed(ops: Ops, { x, letters }: Term, wanted: ReadonlySet<string>): Term {
  const axes = range(letters.length).filter((axis) => !wanted.has(letters[axis]!));
  return { x: ops.sum(x, axes), letters: [...letters].filter((letter) => wanted.has(letter)).join("") };
}

type Need = { readonly result: string; readonly wanted: ReadonlySet<string> };

/** One product of two terms, laid out so that as few elements as possible are moved before and after it. */
function contracted(ops: Ops, [a, b]: readonly [Term, Term], { result, wanted }: Need): Term {
  const final =
    [...result].every((letter) => (a.letters + b.letters).includes(letter)) && wanted.size === result.length;
  const orders = [a.letters + b.letters, b.letters + a.letters, result + a.letters + b.letters];
  const plans = orders.flatMap((order) => [planned([a, b], order, wanted), planned([b, a], order, wanted)]);
  const cost = (plan: Plan) => moved(ops, plan, final ? result : undefined);
  const best = plans.reduce((least, plan) => (cost(plan) < cost(least) ? plan : least));
  return multiplied(ops, best);
}

/** Which letters play which part in a product of `left` and `right`, each in one order for all. */
type Plan = {
  readonly left: Term;
  readonly right: Term;
  readonly batch: string;
  readonly rows: string;
  readonly inner: string;
  readonly columns: string;
};

function planned([left, right]: readonly [Term, Term], order: string, wanted: ReadonlySet<string>): Plan {
  const letters = [...new Set(order)].filter((letter) => (left.letters + right.letters).includes(letter));
  const those = (inLeft: boolean, inRight: boolean, want?: boolean) =>
    letters
      .filter(
        (letter) => left.letters.includes(letter) === inLeft && right.letters.includes(letter) === inRight,
      )
      .filter((letter) => want === undefined || wanted.has(letter) === want)
      .join("");
  return {
    ...{ left, right, rows: those(true, false), columns: those(false, true) },
    ...{ batch: those(true, true, true), inner: those(true, true, false) },
  };
}

/** Elements that transposes would touch. Those of constants are free: they are turned once, at load. */
function moved(
  ops: Ops,
  { left, right, batch, rows, inner, columns }: Plan,
  result: string | undefined,
): number {
  const size = (x: string) => ops.shape(x).reduce((total, d) => total * d, 1);
  const turn = ({ x, letters }: Term, to: string) =>
    letters === to || ops.build.constantOf(x) ? 0 : size(x);
  const out = batch + rows + columns;
  const sizes = sizesOf(ops, [left, right]);
  const made = [...out].reduce((total, letter) => total * sizes.get(letter)!, 1);
  const after = result === undefined || result === out ? 0 : made;
  return turn(left, batch + rows + inner) + turn(right, batch + inner + columns) + after;
}

function sizesOf(ops: Ops, terms: readonly Term[]): ReadonlyMap<string, number> {
  return new Map(
    terms.flatMap(({ x, letters }) => [...letters].map((letter, i) => [letter, ops.shape(x)[i]!])),
  );
}

function multiplied(ops: Ops, { left, right, batch, rows, inner, columns }: Plan): Term {
  const sizes = sizesOf(ops, [left, right]);
  const shape = (letters: string) => [...letters].map((letter) => sizes.get(letter)!);
  const size = (letters: string) => shape(letters).reduce((total, d) => total * d, 1);
  const a = laid(ops, left, batch + rows + inner);
  const b = laid(ops, right, batch + inner + columns);
  const letters = batch + rows + columns;
  if (inner === "") {
    // Nothing to sum: an elementwise product that broadcasts.
    const [wideA, wideB] = [
      [...shape(batch + rows), ...[...columns].map(() => 1)],
      [...shape(batch), ...[...rows].map(() => 1), ...shape(columns)],
    ];
    return { x: ops.mul(ops.reshape(a, wideA), ops.reshape(b, wideB)), letters };
  }
  const stack = batch === "" ? [] : [size(batch)];
  const product = ops.matmul(
    ops.reshape(a, [...stack, size(rows), size(inner)]),
    ops.reshape(b, [...stack, size(inner), size(columns)]),
  );
  return { x: ops.reshape(product, shape(letters)), letters };
}

function laid(ops: Ops, { x, letters }: Term, order: string): string {
  return ops.transpose(
    x,
    [...order].map((letter) => letters.indexOf(letter)),
  );
}

/** In the result's order; a letter that only the result has stands for an axis of size 1. */
function ordered(at: Site, ops: Ops, { x, letters }: Term, result: string): string {
  const present = [...result].filter((letter) => letters.includes(letter));
  const { sizes } = equationOf(at);
  return ops.reshape(
    laid(ops, { x, letters }, present.join("")),
    [...result].map((letter) => sizes.get(letter) ?? 1),
  );
}
