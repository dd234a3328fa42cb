import type { Tensor } from "../ir.ts";
import { axisOf, type Ops, range } from "../ops.ts";
import { stridesOf } from "../tensor.ts";
import type { Adjoint, GradientRule } from "./rule.ts";

/**
 * y takes rows of the data along `axis`; in reverse each row of dy is added to the row it came from.
 * Constant indices without repeats are a gather the other way; others a ScatterND with addition.
 */
export const Gather: GradientRule = (site, ops) => [
  () => {
    const data = site.shape(0);
    const axis = site.axis(site.int("axis", 0), data.length);
    const size = data[axis]!;
    const fixed = site.constant(1);
    if (fixed) {
      const picked = Array.from(fixed.data as BigInt64Array, (index) => axisOf(Number(index), size));
      const dy = ops.reshape(site.dy, data.with(axis, picked.length));
      if (new Set(picked).size === picked.length) return placed(ops, dy, { axis, size, picked });
    }
    return spreadRows(ops, site, { axis, size });
  },
  undefined,
];

type Places = { readonly axis: number; readonly size: number; readonly picked: readonly number[] };

/**
 * Slice i of x along `axis` goes to place `picked[i]` of an axis of `size`, zeros elsewhere; no place twice.
 * Each place looks up the one slice that goes there, or one of zeros at the end.
 */
export function placed(ops: Ops, x: string, { axis, size, picked }: Places): string {
  const edge = (value: number) => ops.shape(x).map((_, i) => (i === axis ? value : 0));
  const first = picked[0] ?? 0;
  // A run of neighbours (a class token, a half of a split) is only padded.
  if (picked.every((index, i) => index === first + i)) {
    return ops.pad(x, { before: edge(first), after: edge(size - first - picked.length) });
  }
  const homes = new Map(picked.map((index, i) => [index, i]));
  const home = range(size).map((index) => homes.get(index) ?? picked.length);
  const withZeros = picked.length < size ? ops.pad(x, { before: edge(0), after: edge(1) }) : x;
  return ops.op("Gather", [withZeros, ops.build.ints(home)], { axis });
}

/** The gathered axis is brought to the front, rows are added up, and it goes back to its place. */
function spreadRows(ops: Ops, site: Adjoint, { axis, size }: { axis: number; size: number }): string {
  const data = site.shape(0);
  const indices = site.input(1);
  const indexRank = site.shape(1).length;
  const count = site.shape(1).reduce((product, d) => product * d, 1);
  const rank = ops.shape(site.dy).length;
  const indexAxes = range(indexRank).map((i) => axis + i);
  const front = [...indexAxes, ...range(rank).filter((i) => i < axis || i >= axis + indexRank)];
  const rest = data.filter((_, i) => i !== axis);
  const width = rest.reduce((product, d) => product * d, 1);
  const rows = ops.reshape(ops.transpose(site.dy, front), [count, width]);
  const flat = wrapped(ops, ops.cast(ops.reshape(indices, [count]), "int64"), size);
  const target = ops.zeros([size, width], rows);
  const table = ops.op("ScatterND", [target, ops.reshape(flat, [count, 1]), rows], { reduction: "add" });
  const back = range(data.length).map((i) => (i === axis ? 0 : i < axis ? i + 1 : i));
  return ops.transpose(ops.reshape(table, [size, ...rest]), back);
}

/** Negative int64 indices count from the end; Mod takes the divisor's sign, which is just that. */
function wrapped(ops: Ops, indices: string, size: number): string {
  return ops.op("Mod", [indices, ops.build.ints([size])]);
}

/** y[i…] = data[indices[i…]]: in reverse ScatterND with addition over the same indices. */
export const GatherND: GradientRule = (site, ops) => [
  () => {
    const batch = site.int("batch_dims", 0);
    const indices = batch === 0 ? site.input(1) : withBatch(ops, site, batch);
    return ops.op("ScatterND", [ops.zeros(site.shape(0), site.dy), indices, site.dy], { reduction: "add" });
  },
  undefined,
];

/** batch_dims as explicit leading coordinates, which are constants. */
function withBatch(ops: Ops, site: Adjoint, batch: number): string {
  const shape = site.shape(1);
  const coordinates = range(batch).map((axis) => coordinate(ops, [...shape.slice(0, -1), 1], axis));
  return ops.op("Concat", [...coordinates, ops.cast(site.input(1), "int64")], { axis: -1 });
}

/**
 * y[i, j] = data[indices[i, j], j] (axis 0): every output has full coordinates, of which one is read from
 * indices.
 */
export const GatherElements: GradientRule = (site, ops) => [
  () => {
    const data = site.shape(0);
    const axis = site.axis(site.int("axis", 0), data.length);
    const cell = [...site.shape(1), 1];
    const read = ops.reshape(wrapped(ops, ops.cast(site.input(1), "int64"), data[axis]!), cell);
    const coordinates = range(data.length).map((at) => (at === axis ? read : coordinate(ops, cell, at)));
    const indices = ops.op("Concat", coordinates, { axis: -1 });
    return ops.op("ScatterND", [ops.zeros(data, site.dy), indices, site.dy], { reduction: "add" });
  },
  undefined,
];

/** A constant int64 tensor that holds, at every place, that place's own coordinate along `axis`. */
export function coordinate(ops: Ops, shape: readonly number[], axis: number): string {
  const stride = stridesOf(shape)[axis]!;
  const size = shape.reduce((product, d) => product * d, 1);
  const at = (index: number) => BigInt(Math.floor(index / stride) % shape[axis]!);
  const tensor: Tensor = {
    dtype: "int64",
    shape,
    data: BigInt64Array.from({ length: size }, (_, i) => at(i)),
  };
  return ops.build.constant(tensor);
}
