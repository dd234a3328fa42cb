import { sizeOf } from "../../ir.ts";
import type { Operator, OpSite } from "./op-site.ts";
import { tapsAlong, toFirst, toLast } from "./outer.ts";
import type { Tf, TfTensor } from "./tfjs.ts";
import { type Move, movesOf, ofMoves, paddingOf, type Window } from "./window.ts";

/*
 * A maximum or a mean over a box is one over its last two axes, then one along each axis in front of them, so
 * pools of any number of axes need only tfjs's two-dimensional kernels.
 */

const poolMoves = (site: OpSite): Move[] =>
  movesOf(site, site.ints("kernel_shape"), { from: site.shape(0), to: site.result().shape });

/** Whether tfjs's own pooling kernels do: they have no dilation. */
const plain = (window: Window): boolean => window.dilations.every((step) => step === 1);

function pooled(
  tf: Tf,
  name: "MaxPool" | "AvgPool",
  { x, window }: { x: TfTensor; window: Window },
): TfTensor {
  const attributes = {
    filterSize: [...window.kernel],
    strides: [...window.strides],
    pad: paddingOf(window),
    dimRoundingMode: "floor",
  };
  return tf.engine().runKernel(name, { x } as never, attributes as never) as TfTensor;
}

type Combine = (a: TfTensor, b: TfTensor) => TfTensor;

/** Combines the cells under the window axis by axis, the first move along axis 2. */
function byAxis(
  tf: Tf,
  x: TfTensor,
  { moves, fill, combine }: { moves: readonly Move[]; fill: number; combine: Combine },
): TfTensor {
  const shape = [...x.shape];
  let held = x;
  for (const [index, move] of [...moves.entries()].reverse()) {
    const axis = index + 2;
    const inner = sizeOf(shape.slice(axis + 1));
    const taps = tapsAlong(tf, tf.reshape(held, [-1, move.input, inner]), { move, fill });
    held = taps.reduce(combine);
    shape[axis] = move.output;
  }
  return tf.reshape(held, shape);
}

/** Padded cells never win. Indices, where asked, count through the whole input. */
export const MaxPool: Operator = (site, tf) => {
  const moves = poolMoves(site);
  const out = site.shapeOut();
  const type = site.typeOut();
  if (sizeOf(out) === 0) return () => tf.zeros(out, type);
  if (site.wants(1)) return withIndices(site, tf, moves);
  const float = (x: TfTensor) => (type === "float32" ? x : tf.cast(x, "float32"));
  const max = maximum(tf, { moves, out });
  return (x) => (type === "float32" ? max(x) : tf.cast(max(float(x)), type));
};

type Pooling = { moves: readonly Move[]; out: number[] };

function maximum(tf: Tf, { moves, out }: Pooling): (x: TfTensor) => TfTensor {
  const window = ofMoves(moves);
  const options = { fill: -Infinity, combine: (a: TfTensor, b: TfTensor) => tf.maximum(a, b) };
  if (!plain(window)) return (x) => byAxis(tf, x, { ...options, moves });
  return (x) => {
    const planes = tf.reshape(x, [x.shape[0]!, -1, ...window.input]);
    const flat = [...planes.shape.slice(0, 2), ...window.output];
    const inPlane = toFirst(tf, pooled(tf, "MaxPool", { x: toLast(tf, planes), window }), flat);
    const depths = window.outer.map(({ input }) => input);
    const volume = tf.reshape(inPlane, [out[0]!, out[1]!, ...depths, sizeOf(window.output)]);
    return tf.reshape(byAxis(tf, volume, { ...options, moves: window.outer }), out);
  };
}

/** The first of equal cells, as onnxruntime does: a later tap must be greater, along every axis in turn. */
function withIndices(site: OpSite, tf: Tf, moves: readonly Move[]) {
  const out = site.shapeOut();
  const shape = site.shape(0);
  const places = site.keep(tf.tensor(positions(site), [...shape], "int32"));
  const type = site.typeOut();
  return (x: TfTensor): TfTensor[] => {
    let best = type === "float32" ? x : tf.cast(x, "float32");
    let index = places;
    const dims = [...shape];
    for (const [at, move] of [...moves.entries()].reverse()) {
      const inner = sizeOf(dims.slice(at + 3));
      const cut = (cells: TfTensor, fill: number) =>
        tapsAlong(tf, tf.reshape(cells, [-1, move.input, inner]), { move, fill });
      const [values, wheres] = [cut(best, -Infinity), cut(index, 0)];
      [best, index] = firstGreatest(tf, values, wheres);
      dims[at + 2] = move.output;
    }
    const top = tf.reshape(best, out);
    return [type === "float32" ? top : tf.cast(top, type), tf.reshape(index, out)];
  };
}

function firstGreatest(tf: Tf, values: readonly TfTensor[], wheres: readonly TfTensor[]) {
  let [best, index] = [values[0]!, wheres[0]!];
  for (const [at, value] of values.entries()) {
    if (at === 0) continue;
    const better = tf.greater(value, best);
    index = tf.where(better, wheres[at]!, index);
    best = tf.where(better, value, best);
  }
  return [best, index] as const;
}

/** What Indices says of each cell: row-major, or with storage_order 1 the first spatial axis fastest. */
function positions(site: OpSite): Int32Array {
  const shape = site.shape(0);
  const space = shape.slice(2);
  const plane = sizeOf(space);
  const columnMajor = site.int("storage_order", 0) !== 0;
  return Int32Array.from({ length: sizeOf(shape) }, (_, at) => {
    if (!columnMajor) return at;
    let [rest, place] = [at % plane, 0];
    for (const size of space.toReversed()) {
      place = place * size + (rest % size);
      rest = Math.floor(rest / size);
    }
    return at - (at % plane) + place;
  });
}

/** The mean over the cells inside the input, or with count_include_pad over pads too, never ceil_mode's. */
export const AveragePool: Operator = (site, tf) => {
  const moves = poolMoves(site);
  const out = site.shapeOut();
  if (sizeOf(out) === 0) return () => tf.zeros(out);
  const window = ofMoves(moves);
  const bounds = site.int("count_include_pad", 0) !== 0 ? padsOf(site, moves) : undefined;
  const inside = counts(
    moves,
    moves.map(() => [0, 0]),
  );
  const divisor = bounds ? counts(moves, bounds) : inside;
  const add: Combine = (a, b) => tf.add(a, b);
  if (!plain(window) || moves.length > 2) {
    const share = site.keep(
      tf.tensor(
        divisor.map((count) => 1 / count),
        [1, 1, ...out.slice(2)],
      ),
    );
    return (x) => tf.mul(byAxis(tf, x, { moves, fill: 0, combine: add }), share);
  }
  const ratio = inside.map((count, at) => count / divisor[at]!);
  const average = (x: TfTensor) => pooled(tf, "AvgPool", { x: toLast(tf, x), window });
  if (ratio.every((value) => value === 1)) return (x) => toFirst(tf, average(x), out);
  const share = site.keep(tf.tensor(ratio, [1, ...window.output, 1]));
  return (x) => toFirst(tf, tf.mul(average(x), share), out);
};

/** Cells before and after each axis. */
type Bounds = readonly (readonly [number, number])[];

/** The pads as written: what count_include_pad counts, unlike the cells ceil_mode adds. */
function padsOf(site: OpSite, moves: readonly Move[]): Bounds {
  if (site.string("auto_pad", "NOTSET") !== "NOTSET")
    return moves.map(({ before, after }) => [before, after]);
  const pads = site.ints("pads", new Array<number>(2 * moves.length).fill(0));
  return moves.map((_, axis) => [pads[axis]!, pads[axis + moves.length]!]);
}

/** How many cells of each window lie inside the input widened by `bounds`, row-major over the output. */
function counts(moves: readonly Move[], bounds: Bounds): number[] {
  return moves.reduce<number[]>(
    (held, move, axis) => {
      const along = countsAlong(move, bounds[axis]!);
      return held.flatMap((count) => along.map((own) => count * own));
    },
    [1],
  );
}

function countsAlong(move: Move, [before, after]: readonly [number, number]): number[] {
  return Array.from({ length: move.output }, (_, at) => {
    const first = at * move.stride - move.before;
    let count = 0;
    for (let tap = 0; tap < move.kernel; tap++) {
      const cell = first + tap * move.dilation;
      if (cell >= -before && cell < move.input + after) count++;
    }
    return count;
  });
}

const spatial = (site: OpSite): number[] => site.shape(0).flatMap((_, axis) => (axis >= 2 ? [axis] : []));

export const GlobalAveragePool: Operator = (site, tf) => {
  const axes = spatial(site);
  return (x) => tf.mean(x, axes, true);
};

export const GlobalMaxPool: Operator = (site, tf) => {
  const axes = spatial(site);
  return (x) => tf.max(x, axes, true);
};
