import { sizeOf } from "../../ir.ts";
import { stridesOf } from "../../tensor.ts";
import { choose, expandTo, sameShape } from "./broadcast.ts";
import type { Operator, OpSite } from "./op-site.ts";
import type { Tf, TfTensor } from "./tfjs.ts";

/*
 * Every operator here and in scatter.ts is gatherND or scatterND over rows: the data seen as [rows, inner],
 * the indices turned into row numbers (at load, where they are constant). On wasm tf.gather copies element
 * by element, 150 times slower than gatherND. Neither gatherND nor scatterND looks at bounds: numbers are
 * checked first.
 */

/** How one index tensor becomes row numbers: entries along its last axis, each into its own dimension. */
export type Rows = {
  /** Input holding the indices, shaped [...groups, k]. */
  index: number;
  /** Sizes of the k dimensions indexed, and how many rows one step in each skips. */
  dims: readonly number[];
  strides: readonly number[];
  /** Rows to add to each entry, broadcast against the entries; absent where none. */
  base?: { values: Int32Array; shape: readonly number[] };
  entries: readonly number[];
};

/** Row numbers [count, 1] from input `rows.index`; the result is the identity for prepared constants. */
export function rowNumbers(site: OpSite, tf: Tf, rows: Rows): (indices: TfTensor) => TfTensor {
  const base = rows.base && site.keep(tf.tensor(rows.base.values, [...rows.base.shape], "int32"));
  const dims = site.keep(tf.tensor1d([...rows.dims], "int32"));
  const strides = site.keep(tf.tensor1d([...rows.strides], "int32"));
  const plain = rows.dims.length === 1 && rows.strides[0] === 1;
  const make = (indices: TfTensor): TfTensor => {
    const flat = tf.reshape(indices, [sizeOf(rows.entries), rows.dims.length]);
    const wrapped = wrap(site, tf, { indices: flat, dims, sizes: rows.dims });
    const numbers = plain ? wrapped : tf.sum(tf.mul(wrapped, strides), 1);
    const placed = base ? tf.add(tf.reshape(numbers, [...rows.entries]), base) : numbers;
    return tf.reshape(placed, [-1, 1]);
  };
  const how = `rows ${site.node.op} ${site.node.outputs[0]}`;
  return site.prepare(rows.index, how, make) ? (ready) => ready : make;
}

/** Negative indices count from the end; one outside is refused on the backends that read memory freely. */
function wrap(
  site: OpSite,
  tf: Tf,
  at: { indices: TfTensor; dims: TfTensor; sizes: readonly number[] },
): TfTensor {
  const { indices, dims, sizes } = at;
  const integers = indices.dtype === "int32" ? indices : tf.cast(indices, "int32");
  let anyNegative = true;
  if (site.backend === "wasm" || site.backend === "cpu") {
    // On these two dataSync waits for nothing.
    const values = integers.dataSync();
    for (let i = 0; i < values.length; i++) {
      const size = sizes[i % sizes.length]!;
      const value = values[i]!;
      if (value < -size || value >= size)
        throw site.fault("bad-input", "indices", {
          expected: `within ${-size}..${size - 1}`,
          got: `${value}`,
        });
    }
    anyNegative = values.some((value) => value < 0);
  }
  if (!anyNegative) return integers;
  return tf.where(tf.less(integers, tf.scalar(0, "int32")), tf.add(integers, dims), integers);
}

/** Steps 0, step, 2·step, ... as int32. */
const steps = (count: number, step: number): Int32Array =>
  Int32Array.from({ length: count }, (_, i) => i * step);

export const Gather: Operator = (site, tf) => {
  const shape = site.shape(0);
  const axis = site.axis(site.int("axis", 0), shape.length);
  const size = shape[axis]!;
  const outer = sizeOf(shape.slice(0, axis));
  const inner = sizeOf(shape.slice(axis + 1));
  const out = site.shapeOut();
  if (sizeOf(out) === 0) return nothing(site, tf);
  const count = sizeOf(site.shape(1));
  const base = outer === 1 ? {} : { base: { values: steps(outer, size), shape: [outer, 1, 1] } };
  const entries = [1, count, 1];
  const numbers = rowNumbers(site, tf, { index: 1, dims: [size], strides: [1], entries, ...base });
  return (x, indices) => tf.reshape(tf.gatherND(tf.reshape(x, [outer * size, inner]), numbers(indices)), out);
};

/** Indices [..., k] each name a block of the data's trailing dimensions, within their own batch. */
export const GatherND: Operator = (site, tf) => {
  const batchDims = site.int("batch_dims", 0);
  const shape = site.shape(0);
  const index = site.shape(1);
  const k = index.at(-1)!;
  const dims = shape.slice(batchDims, batchDims + k);
  const inner = sizeOf(shape.slice(batchDims + k));
  const batch = sizeOf(shape.slice(0, batchDims));
  const out = site.shapeOut();
  if (sizeOf(out) === 0) return nothing(site, tf);
  const each = sizeOf(index.slice(batchDims, -1));
  const base = batch === 1 ? {} : { base: { values: steps(batch, sizeOf(dims)), shape: [batch, 1] } };
  const numbers = rowNumbers(site, tf, {
    index: 1,
    dims,
    strides: stridesOf(dims),
    entries: [batch, each],
    ...base,
  });
  const rows = batch * sizeOf(dims);
  return (x, indices) => tf.reshape(tf.gatherND(tf.reshape(x, [rows, inner]), numbers(indices)), out);
};

/** Indices of the updates' own shape, into one axis; the other coordinates are the entry's own position. */
export function elementRows(site: OpSite, tf: Tf): (indices: TfTensor) => TfTensor {
  const shape = site.shape(0);
  const entries = site.shape(1);
  const axis = site.axis(site.int("axis", 0), shape.length);
  const strides = stridesOf(shape);
  const own = stridesOf(entries);
  const values = Int32Array.from({ length: sizeOf(entries) }, (_, at) =>
    entries.reduce((sum, size, d) => {
      const position = Math.floor(at / own[d]!) % size;
      return d === axis ? sum : sum + position * strides[d]!;
    }, 0),
  );
  const base = { values, shape: entries };
  return rowNumbers(site, tf, { index: 1, dims: [shape[axis]!], strides: [strides[axis]!], entries, base });
}

export const GatherElements: Operator = (site, tf) => {
  const out = site.shapeOut();
  if (sizeOf(out) === 0) return nothing(site, tf);
  const numbers = elementRows(site, tf);
  const rows = sizeOf(site.shape(0));
  return (x, indices) => tf.reshape(tf.gatherND(tf.reshape(x, [rows, 1]), numbers(indices)), out);
};

function nothing(site: OpSite, tf: Tf) {
  const shape = site.shapeOut();
  const type = site.typeOut();
  return () => tf.zeros(shape, type);
}

/** Indices outside -depth..depth-1 give all off. The depth is the traced output's. */
export const OneHot: Operator = (site, tf) => {
  const out = site.shapeOut();
  const axis = site.axis(site.int("axis", -1), out.length);
  const depth = out[axis]!;
  site.skip(1);
  const entries = sizeOf(site.shape(0));
  const perm = out.map((_, at) => (at < axis ? at : at === axis ? out.length - 1 : at - 1));
  const scalar = (value: number) => tf.scalar(value, "int32");
  return (indices, _, values) => {
    const flat = tf.reshape(tf.cast(indices, "int32"), [entries]);
    const wrapped = tf.where(tf.less(flat, scalar(0)), tf.add(flat, scalar(depth)), flat);
    // Compared rather than tf.oneHot, which refuses a depth of 1: what lies outside equals nothing.
    const places = tf.reshape(tf.range(0, depth, 1, "int32"), [1, depth]);
    const kept = tf.equal(tf.reshape(wrapped, [entries, 1]), places);
    // Chosen, not off + kept·(on − off): that is NaN where a value is infinite.
    const spread = (at: number) => expandTo(tf, tf.slice(values, [at], [1]), [entries, depth]);
    const mixed = choose(tf, kept, [spread(1), spread(0)]);
    const lastly = [...out.slice(0, axis), ...out.slice(axis + 1), depth];
    const placed = tf.reshape(mixed, lastly);
    return sameShape(lastly, out) && axis === out.length - 1 ? placed : tf.transpose(placed, perm);
  };
};
