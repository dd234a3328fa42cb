import type { Site } from "../site.ts";
import { numeric } from "../tensor.ts";
import { demandRank, demandShape, demandSingle, demandSize, one, same, sameDtype } from "./rule.ts";

// Reads and writes at positions that a tensor names. That indices lie inside is checked where values are
// known: by evaluate and by the engines.

/** The axis is replaced by the shape of the indices (Gather, since version 13). */
export function Gather(at: Site) {
  const shape = at.shape(0);
  const axis = at.axis(at.int("axis", 0), shape.length);
  const size = shape[axis]!;
  const outside = at.constant(1) && at.numbers(1).find((index) => index < -size || index >= size);
  if (outside !== undefined)
    throw at.fault("bad-input", "indices", { expected: `${-size} to ${size - 1}`, got: `${outside}` });
  return one(at.dtype(0), [...shape.slice(0, axis), ...at.shape(1), ...shape.slice(axis + 1)]);
}

/** One result per index, which stands where it is taken from but for the axis (since version 13). */
export function GatherElements(at: Site) {
  demandElements(at);
  return one(at.dtype(0), at.shape(1));
}

/** Indices have the data's rank and lie within it on every axis but the one they index. */
function demandElements(at: Site): void {
  const [shape, indices] = [at.shape(0), at.shape(1)];
  demandSize(at, "rank of input 1", { expected: shape.length, got: indices.length });
  const axis = at.axis(at.int("axis", 0), shape.length);
  if (indices.every((size, d) => d === axis || size <= shape[d]!)) return;
  const expected = `at most [${shape}] but on axis ${axis}`;
  throw at.fault("bad-input", "shape of the indices", { expected, got: `[${indices}]` });
}

/** `indices[..., depth]` names positions after `batch_dims` shared leading dimensions. */
export function GatherND(at: Site) {
  const batch = at.int("batch_dims", 0);
  demandRank(at, 0, 1, Number.POSITIVE_INFINITY);
  demandRank(at, 1, 1, Number.POSITIVE_INFINITY);
  const depth = at.shape(1).at(-1) ?? 0;
  const [own, theirs] = [at.shape(0).slice(0, batch), at.shape(1).slice(0, batch)];
  if (batch < 0 || batch >= at.shape(1).length || depth < 1 || `${own}` !== `${theirs}`) {
    const expected = `batches of [${at.shape(0)}], and 1 or more indices in each tuple`;
    throw at.fault("bad-input", "indices", { expected, got: `[${at.shape(1)}]` });
  }
  const rest = at.shape(0).slice(batch + depth);
  if (batch + depth > at.shape(0).length)
    throw at.fault("bad-input", "indices", {
      expected: `at most ${at.shape(0).length - batch} deep`,
      got: `${depth}`,
    });
  return one(at.dtype(0), [...at.shape(1).slice(0, -1), ...rest]);
}

/** The data with slices overwritten or combined; `updates` has a slice per index tuple (since version 18). */
export function ScatterND(at: Site) {
  sameDtype(at, [0, 2]);
  demandRank(at, 1, 1, Number.POSITIVE_INFINITY);
  const depth = at.shape(1).at(-1)!;
  if (depth < 1 || depth > at.shape(0).length) {
    const expected = `1 to ${at.shape(0).length}`;
    throw at.fault("bad-input", "numbers in an index", { expected, got: `${depth}` });
  }
  const expected = [...at.shape(1).slice(0, -1), ...at.shape(0).slice(depth)];
  if (`${expected}` !== `${at.shape(2)}`)
    throw at.fault("bad-input", "updates", { expected: `[${expected}]`, got: `[${at.shape(2)}]` });
  return same(at);
}

/** One update per index, at the index's own place but for the axis (ScatterElements, since version 18). */
export function ScatterElements(at: Site) {
  sameDtype(at, [0, 2]);
  demandElements(at);
  if (`${at.shape(1)}` !== `${at.shape(2)}`)
    throw at.fault("bad-input", "updates", { expected: `[${at.shape(1)}]`, got: `[${at.shape(2)}]` });
  return same(at);
}

/** The depth is a shape, so it must be known; the result has the values' dtype (OneHot, since version 11). */
export function OneHot(at: Site) {
  const shape = at.shape(0);
  demandSingle(at, 1);
  demandShape(at, 2, [2]);
  const depth = at.numbers(1)[0] ?? 0;
  const axis = at.axis(at.int("axis", -1), shape.length + 1);
  return one(at.dtype(2), shape.toSpliced(axis, 0, depth));
}

/** Its size depends on its values, so they must be known. */
export function NonZero(at: Site) {
  let count = 0;
  for (const value of numeric(at.need(0))) if (value) count++;
  return one("int64", [at.shape(0).length, count]);
}

/** Values and places of the `k` largest or smallest along an axis; `k` was an attribute before version 10. */
export function TopK(at: Site) {
  demandSingle(at, 1);
  const k = at.has(1) ? at.numbers(1)[0]! : at.int("k");
  const axis = at.axis(at.int("axis", -1), at.shape(0).length);
  const size = at.shape(0)[axis]!;
  if (k < 0 || k > size) throw at.fault("bad-input", "k", { expected: `0 to ${size}`, got: `${k}` });
  const shape = at.shape(0).with(axis, k);
  return [
    { dtype: at.dtype(0), shape },
    { dtype: "int64" as const, shape },
  ];
}
