import { type Static, sizeOf } from "../ir.ts";
import type { Site } from "../site.ts";
import { int64, numeric, stridesOf } from "../tensor.ts";
import { around, elements, filled, greater, lesser, only, pick } from "./rule.ts";

// Gathers compute the positions that their indices mean and pick those; scatters write to the same positions.
// Each scatter shares that arithmetic with the gather it is the adjoint of, so that the two cannot drift
// apart.

/**
 * An index from the front, or a Fault: negative ones count from the end (Gather, since version 11). One
 * outside is an error by the standard; reading past the data here would fold a wrong constant in silence.
 */
function inside(at: Site, index: number, size: number): number {
  if (index >= -size && index < size) return index < 0 ? index + size : index;
  throw at.fault("bad-input", "index", { expected: `one of ${-size}..${size - 1}`, got: `${index}` });
}

/** The data as [outer, axis, inner] slabs; each index takes a whole inner row of every outer one. */
export function Gather(at: Site, out: readonly Static[]) {
  const axis = at.axis(at.int("axis", 0), at.shape(0).length);
  const { size, inner } = around(at.shape(0), axis);
  const indices = at.numbers(1).map((index) => inside(at, index, size));
  const span = indices.length * inner;
  const from = Float64Array.from({ length: sizeOf(only(out).shape) }, (_, i) => {
    const [outer, rest] = [Math.floor(i / span), i % span];
    return (outer * size + indices[Math.floor(rest / inner)]!) * inner + (rest % inner);
  });
  return [pick(at.need(0), only(out).shape, from)];
}

/**
 * For each element of the indices, the position in the data with its `axis` coordinate replaced. The indices
 * may be shorter than the data along the other axes; then only the data's front is met (GatherElements, since
 * version 13).
 */
function alongAxis(at: Site): Float64Array {
  const shape = at.shape(0);
  const axis = at.axis(at.int("axis", 0), shape.length);
  const [own, steps] = [stridesOf(shape), stridesOf(at.shape(1))];
  const indices = at.numbers(1);
  return Float64Array.from(indices, (index, i) =>
    shape.reduce((sum, size, d) => {
      const coordinate = d === axis ? inside(at, index, size) : Math.floor(i / steps[d]!) % at.shape(1)[d]!;
      return sum + coordinate * own[d]!;
    }, 0),
  );
}

export function GatherElements(at: Site, out: readonly Static[]) {
  return [pick(at.need(0), only(out).shape, alongAxis(at))];
}

/**
 * Where the slices named by the last dimension of the indices start, and how long each is. The first `batch`
 * dimensions are shared: tuple t looks only into its own batch (GatherND, since version 12).
 */
function slices(at: Site, batch: number): { starts: number[]; length: number } {
  const shape = at.shape(0);
  const depth = at.shape(1).at(-1) ?? 0;
  const own = stridesOf(shape);
  const indices = at.numbers(1);
  const tuples = sizeOf(at.shape(1).slice(0, -1));
  const perBatch = tuples / Math.max(1, sizeOf(shape.slice(0, batch)));
  const starts = Array.from({ length: tuples }, (_, t) => {
    let start = batch === 0 ? 0 : Math.floor(t / perBatch) * own[batch - 1]!;
    for (let d = 0; d < depth; d++)
      start += inside(at, indices[t * depth + d]!, shape[batch + d]!) * own[batch + d]!;
    return start;
  });
  return { starts, length: sizeOf(shape.slice(batch + depth)) };
}

export function GatherND(at: Site, out: readonly Static[]) {
  const { starts, length } = slices(at, at.int("batch_dims", 0));
  const from = Float64Array.from({ length: starts.length * length }, (_, i) => {
    return starts[Math.floor(i / length)]! + (i % length);
  });
  return [pick(at.need(0), only(out).shape, from)];
}

type Combine = (old: number | bigint, update: number | bigint) => number | bigint;

/** max and min came with version 18, add and mul with 16. */
const REDUCTIONS: Readonly<Record<string, Combine>> = {
  none: (_, update) => update,
  // Both operands have the tensor's dtype, so they are both bigints or both numbers.
  add: (old, update) => (typeof old === "bigint" ? old + (update as bigint) : old + (update as number)),
  mul: (old, update) => (typeof old === "bigint" ? old * (update as bigint) : old * (update as number)),
  max: greater,
  min: lesser,
};

function scatter(at: Site, like: Static, to: ArrayLike<number>) {
  const combine = REDUCTIONS[at.string("reduction", "none")];
  if (!combine) throw at.fault("unsupported", "attribute reduction", { got: at.string("reduction") });
  const held: (number | bigint)[] = Array.from(elements(at.need(0)));
  const updates = elements(at.need(2));
  for (let i = 0; i < to.length; i++) held[to[i]!] = combine(held[to[i]!]!, updates[i]!);
  return [filled(like, (i) => held[i]!)];
}

export function ScatterElements(at: Site, out: readonly Static[]) {
  return scatter(at, only(out), alongAxis(at));
}

/**
 * Later updates of one position see earlier ones, so sums over duplicates are complete. With reduction `none`
 * duplicates are undefined by the standard; here the last one wins (ScatterND, since version 18).
 */
export function ScatterND(at: Site, out: readonly Static[]) {
  const { starts, length } = slices(at, 0);
  const to = starts.flatMap((start) => Array.from({ length }, (_, i) => start + i));
  return scatter(at, only(out), to);
}

/** Values are `[off, on]`; an index outside −depth…depth − 1 lights nothing (OneHot, since version 11). */
export function OneHot(at: Site, out: readonly Static[]) {
  const { shape } = only(out);
  const axis = at.axis(at.int("axis", -1), shape.length);
  const { size, inner } = around(shape, axis);
  const indices = at.numbers(0);
  const [off, on] = [elements(at.need(2))[0]!, elements(at.need(2))[1]!];
  const lit = (i: number) => {
    const index = indices[Math.floor(i / (size * inner)) * inner + (i % inner)]!;
    return (index < 0 ? index + size : index) === Math.floor(i / inner) % size;
  };
  return [filled(only(out), (i) => (lit(i) ? on : off))];
}

/** One row per axis, one column per element that is not zero, in row-major order (since version 13). */
export function NonZero(at: Site, out: readonly Static[]) {
  const shape = at.shape(0);
  const found = [...numeric(at.need(0)).entries()].flatMap(([position, value]) => (value ? [position] : []));
  const steps = stridesOf(shape);
  const rows = shape.map((size, axis) => found.map((position) => Math.floor(position / steps[axis]!) % size));
  return [int64(rows.flat(), only(out).shape)];
}

/**
 * Sorted; among equals the lower index comes first (TopK, since version 11). `sorted` 0 allows any order, so
 * this one too; a twin must have one answer.
 */
export function TopK(at: Site, out: readonly Static[]) {
  const axis = at.axis(at.int("axis", -1), at.shape(0).length);
  const { outer, size, inner } = around(at.shape(0), axis);
  const k = out[0]!.shape[axis]!;
  const x = elements(at.need(0));
  const order = at.int("largest", 1) ? -1 : 1;
  const places = new Float64Array(outer * k * inner);
  for (let lane = 0; lane < outer * inner; lane++) {
    const [o, i] = [Math.floor(lane / inner), lane % inner];
    const value = (place: number) => x[(o * size + place) * inner + i]!;
    const sorted = Array.from({ length: size }, (_, place) => place).sort((a, b) =>
      value(a) === value(b) ? a - b : value(a) < value(b) ? -order : order,
    );
    for (let rank = 0; rank < k; rank++) places[(o * k + rank) * inner + i] = sorted[rank]!;
  }
  const from = places.map((place, p) => (Math.floor(p / (k * inner)) * size + place) * inner + (p % inner));
  return [pick(at.need(0), out[0]!.shape, from), filled(out[1]!, (i) => places[i]!)];
}
