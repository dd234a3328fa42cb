import { sizeOf } from "../../ir.ts";
import type { Operator, OpSite } from "./op-site.ts";
import { channelsLast, tapsAlong, toFirst } from "./outer.ts";
import type { Tf, TfTensor } from "./tfjs.ts";
import { type Move, movesOf, ofMoves, paddingOf, STILL, type Window } from "./window.ts";

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

type Pool = { name: "MaxPool" | "AvgPool"; moves: readonly Move[] };

/** The maximum, or the mean of the cells inside the input, over the window: NC… of the output's sizes. */
function poolAll(tf: Tf, x: TfTensor, { name, moves }: Pool): TfTensor {
  const window = ofMoves(moves);
  const [n, c] = x.shape as [number, number];
  const whole = plain(window);
  let held = channelsLast(tf, x);
  if (whole) held = pooled(tf, name, { x: tf.reshape(held, [-1, ...window.input, c]), window });
  const inner = whole ? c * sizeOf(window.output) : c;
  inwards(whole ? window.outer : moves, inner, (move, behind) => {
    held = poolAlong(tf, tf.reshape(held, [-1, move.input, behind]), { name, move });
  });
  return toFirst(tf, held, [n, c, ...moves.map(({ output }) => output)]);
}

/** Visits axes from the last to the first, each with the size of all that lies behind it, once pooled. */
function inwards(moves: readonly Move[], inner: number, visit: (move: Move, behind: number) => void): void {
  let behind = inner;
  for (const move of moves.toReversed()) {
    visit(move, behind);
    behind *= move.output;
  }
}

/** Over the middle axis of `[outer, cells, inner]`: in NHWC's eyes rows of one pixel with inner channels. */
function poolAlong(tf: Tf, x: TfTensor, { name, move }: { name: Pool["name"]; move: Move }): TfTensor {
  const [outer, cells, inner] = x.shape as [number, number, number];
  if (move.dilation === 1) {
    const image = tf.reshape(x, [outer, cells, 1, inner]);
    const y = pooled(tf, name, { x: image, window: ofMoves([move, STILL]) });
    return tf.reshape(y, [outer, move.output, inner]);
  }
  const isMax = name === "MaxPool";
  const taps = tapsAlong(tf, x, { move, fill: isMax ? -Infinity : 0 });
  if (isMax) return taps.reduce((best, tap) => tf.maximum(best, tap));
  const shares = countsAlong(move, [0, 0]).map((count) => 1 / count);
  return tf.mul(tf.addN(taps), tf.tensor(shares, [1, move.output, 1]));
}

/** Padded cells never win. Indices, where asked, count through the whole input. */
export const MaxPool: Operator = (site, tf) => {
  const moves = poolMoves(site);
  const out = site.shapeOut();
  const type = site.typeOut();
  if (sizeOf(out) === 0) return () => tf.zeros(out, type);
  if (site.wants(1)) return withIndices(site, tf, moves);
  const max = (x: TfTensor) => poolAll(tf, x, { name: "MaxPool", moves });
  return (x) => (type === "float32" ? max(x) : tf.cast(max(tf.cast(x, "float32")), type));
};

/** The first of equal cells, as onnxruntime does: a later tap must be greater, along every axis in turn. */
function withIndices(site: OpSite, tf: Tf, moves: readonly Move[]) {
  const out = site.shapeOut();
  const shape = site.shape(0);
  const places = site.keep(tf.tidy(() => channelsLast(tf, tf.tensor(positions(site), [...shape], "int32"))));
  const type = site.typeOut();
  return (x: TfTensor): TfTensor[] => {
    let best = channelsLast(tf, type === "float32" ? x : tf.cast(x, "float32"));
    let index = places;
    inwards(moves, shape[1]!, (move, behind) => {
      const cut = (cells: TfTensor, fill: number) =>
        tapsAlong(tf, tf.reshape(cells, [-1, move.input, behind]), { move, fill });
      [best, index] = firstGreatest(tf, cut(best, -Infinity), cut(index, 0));
    });
    const top = toFirst(tf, best, out);
    return [type === "float32" ? top : tf.cast(top, type), toFirst(tf, index, out)];
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
  const average = (x: TfTensor) => poolAll(tf, x, { name: "AvgPool", moves });
  if (site.int("count_include_pad", 0) === 0) return average;
  const none = moves.map(() => [0, 0] as const);
  const [inside, divisor] = [counts(moves, none), counts(moves, padsOf(site, moves))];
  const ratio = inside.map((count, at) => count / divisor[at]!);
  if (ratio.every((value) => value === 1)) return average;
  const share = site.keep(tf.tensor(ratio, [1, 1, ...out.slice(2)]));
  return (x) => tf.mul(average(x), share);
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

/** Over all cells of an image, which has at least one; there may be no image. */
const global =
  (reduce: (tf: Tf, x: TfTensor, axes: number[]) => TfTensor): Operator =>
  (site, tf) => {
    const axes = site.shape(0).flatMap((_, axis) => (axis >= 2 ? [axis] : []));
    const out = site.shapeOut();
    if (sizeOf(out) === 0) return () => tf.zeros(out);
    return (x) => reduce(tf, x, axes);
  };

export const GlobalAveragePool = global((tf, x, axes) => tf.mean(x, axes, true));
export const GlobalMaxPool = global((tf, x, axes) => tf.max(x, axes, true));
