import { sizeOf } from "../../ir.ts";
import { stridesOf } from "../../tensor.ts";
import { elementRows, rowNumbers } from "./indexing.ts";
import type { Operator, OpSite } from "./op-site.ts";
import type { Tf, TfTensor } from "./tfjs.ts";

export const ScatterND: Operator = (site, tf) => {
  const shape = site.shape(0);
  const k = site.shape(1).at(-1)!;
  const dims = shape.slice(0, k);
  const count = sizeOf(site.shape(1).slice(0, -1));
  const inner = sizeOf(shape.slice(k));
  if (count * inner === 0 || sizeOf(shape) === 0) return (x) => x;
  const numbers = rowNumbers(site, tf, { index: 1, dims, strides: stridesOf(dims), entries: [count] });
  return scatter(site, tf, { numbers, rows: sizeOf(dims), count, inner });
};

export const ScatterElements: Operator = (site, tf) => {
  const count = sizeOf(site.shape(1));
  const rows = sizeOf(site.shape(0));
  if (count === 0 || rows === 0) return (x) => x;
  return scatter(site, tf, { numbers: elementRows(site, tf), rows, count, inner: 1 });
};

type Places = { numbers: (indices: TfTensor) => TfTensor; rows: number; count: number; inner: number };

type Combine = (tf: Tf, old: TfTensor, update: TfTensor) => TfTensor;

const COMBINE: Readonly<Record<string, Combine>> = {
  mul: (tf, old, update) => tf.mul(old, update),
  // As onnxruntime compares: where one is NaN the update counts. wasm's minimum drops either.
  min: (tf, old, update) => tf.where(tf.less(old, update), old, update),
  max: (tf, old, update) => tf.where(tf.greater(old, update), old, update),
};

/** reduction none writes, add sums (duplicates too, as a gradient of Gather needs), others go in rounds. */
function scatter(site: OpSite, tf: Tf, how: Places) {
  const reduction = site.string("reduction", "none");
  if (reduction === "add") return adding(site, tf, how);
  const combine = COMBINE[reduction];
  if (!combine && reduction !== "none")
    throw site.fault("unsupported", "attribute reduction", {
      expected: "none, add, mul, min or max",
      got: reduction,
    });
  // Rounds are found by reading row numbers back, for which webgpu would have to wait.
  if (combine && site.backend === "webgpu")
    throw site.fault("unsupported", `attribute reduction on ${site.backend}`, {
      expected: "none or add",
      got: reduction,
      todo: "Use the wasm or webgl backend",
    });
  const { numbers, rows, count, inner } = how;
  const out = site.shapeOut();
  return (x: TfTensor, indices: TfTensor, updates: TfTensor): TfTensor => {
    const at = numbers(indices);
    const [held, given] = [tf.reshape(x, [rows, inner]), tf.reshape(updates, [count, inner])];
    if (!combine) return tf.reshape(tf.tensorScatterUpdate(held, at as never, given), out);
    const rounds = distinct(at);
    const cut = (whole: TfTensor, entries: readonly number[]) =>
      rounds.length === 1 ? whole : tf.gather(whole, tf.tensor1d([...entries], "int32"));
    const done = rounds.reduce((values, entries) => {
      const to = cut(at, entries) as never;
      const fresh = combine(tf, tf.gatherND(values, to), cut(given, entries));
      return tf.tensorScatterUpdate(values, to, fresh);
    }, held);
    return tf.reshape(done, out);
  };
}

function adding(site: OpSite, tf: Tf, { numbers, rows, count, inner }: Places) {
  const out = site.shapeOut();
  const onZeros = isZero(site, 0);
  if (onZeros) site.skip(0);
  return (x: TfTensor, indices: TfTensor, updates: TfTensor): TfTensor => {
    const at = numbers(indices) as never;
    const sums = tf.reshape(tf.scatterND(at, tf.reshape(updates, [count, inner]), [rows, inner]), out);
    return onZeros ? sums : tf.add(x, sums);
  };
}

/**
 * The entries in rounds that each meet a row once at most, so that a round may read all its rows before it
 * writes one. As many rounds as the row met most often is met.
 */
function distinct(at: TfTensor): number[][] {
  const rounds: number[][] = [];
  const met = new Map<number, number>();
  for (const [entry, row] of at.dataSync().entries()) {
    const round = met.get(row) ?? 0;
    met.set(row, round + 1);
    rounds[round] ??= [];
    rounds[round].push(entry);
  }
  return rounds;
}

/** Whether an input is known to be all zeros, as the start of a gradient of Gather is. */
function isZero(site: OpSite, index: number): boolean {
  const data = site.constant(index)?.data;
  return data instanceof Float32Array && data.every((value) => value === 0);
}
