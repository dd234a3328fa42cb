import { sizeOf } from "../../ir.ts";
import { expandTo } from "./broadcast.ts";
import { toFirst, toLast } from "./convolution.ts";
import type { Operator, OpSite } from "./op-site.ts";
import type { Tf, TfTensor } from "./tfjs.ts";
import { paddingOf, type Window, windowOf } from "./window.ts";

const poolWindow = (site: OpSite): Window =>
  windowOf(site, site.ints("kernel_shape"), { from: site.shape(0), to: site.result().shape });

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

/** Padded cells never win. Indices, where asked, count through the whole NCHW input. */
export const MaxPool: Operator = (site, tf) => {
  const window = poolWindow(site);
  const out = site.shapeOut();
  if (site.int("storage_order", 0) !== 0)
    throw site.fault("unsupported", "attribute storage_order", { expected: "0 (row major)", got: "1" });
  if (sizeOf(out) === 0) return () => tf.zeros(out);
  if (site.wants(1)) return withIndices(site, tf, window);
  if (plain(window)) return (x) => toFirst(tf, pooled(tf, "MaxPool", { x: toLast(tf, x), window }), out);
  return (x) => {
    const [first, ...rest] = taps(tf, x, { window, fill: -Infinity });
    return tf.reshape(
      rest.reduce((best, tap) => tf.maximum(best, tap), first!),
      out,
    );
  };
};

/** Every cell under the window's moves, tap by tap: [N, C, out, out] each, row-major over the kernel. */
function taps(tf: Tf, x: TfTensor, { window, fill }: { window: Window; fill: number }): TfTensor[] {
  const { kernel, strides, dilations, before, after, input, output } = window;
  const [n, c] = x.shape as [number, number];
  const padded = tf.pad(
    tf.reshape(x, [n, c, ...input]),
    [
      [0, 0],
      [0, 0],
      [before[0], after[0]],
      [before[1], after[1]],
    ],
    fill,
  );
  return positions(kernel).map(([i, j]) => {
    const [top, left] = [i * dilations[0], j * dilations[1]];
    const end = [n, c, top + (output[0] - 1) * strides[0] + 1, left + (output[1] - 1) * strides[1] + 1];
    return tf.stridedSlice(padded, [0, 0, top, left], end, [1, 1, ...strides]);
  });
}

const positions = ([rows, columns]: readonly [number, number]): [number, number][] =>
  Array.from({ length: rows * columns }, (_, at) => [Math.floor(at / columns), at % columns]);

/** The first of equal cells, as onnxruntime does. */
function withIndices(site: OpSite, tf: Tf, window: Window) {
  const out = site.shapeOut();
  const [n, c] = out as [number, number];
  const shape = [n, c, ...window.output];
  const plane = sizeOf(window.input);
  const planes = site.keep(
    tf.tensor(
      Array.from({ length: n * c }, (_, i) => i * plane),
      [n, c, 1, 1],
      "int32",
    ),
  );
  const wheres = positions(window.kernel).map((at) => site.keep(cells(tf, window, at)));
  return (x: TfTensor): TfTensor[] => {
    const all = taps(tf, x, { window, fill: -Infinity });
    let best = all[0]!;
    let index = expandTo(tf, wheres[0]!, shape);
    for (const [at, tap] of all.entries()) {
      if (at === 0) continue;
      const better = tf.greater(tap, best);
      index = tf.where(better, expandTo(tf, wheres[at]!, shape), index);
      best = tf.where(better, tap, best);
    }
    return [tf.reshape(best, out), tf.reshape(tf.add(index, planes), out)];
  };
}

/** Position within its plane of the cell that tap [i, j] of each window covers. */
function cells(
  tf: Tf,
  { strides, dilations, before, input, output }: Window,
  [i, j]: readonly [number, number],
) {
  const values = positions(output).map(([row, column]) => {
    const y = row * strides[0] + i * dilations[0] - before[0];
    const x = column * strides[1] + j * dilations[1] - before[1];
    return y * input[1] + x;
  });
  return tf.tensor(values, [1, 1, ...output], "int32");
}

/** The mean over the cells inside the input, or with count_include_pad over pads too, never ceil_mode's. */
export const AveragePool: Operator = (site, tf) => {
  const window = poolWindow(site);
  const out = site.shapeOut();
  if (sizeOf(out) === 0) return () => tf.zeros(out);
  const bounds = site.int("count_include_pad", 0) !== 0 ? padsOf(site, window) : undefined;
  const inside = counts(window, { before: [0, 0], after: [0, 0] });
  const divisor = bounds ? counts(window, bounds) : inside;
  if (!plain(window)) {
    const share = site.keep(
      tf.tensor(
        divisor.map((count) => 1 / count),
        [1, 1, ...window.output],
      ),
    );
    return (x) => tf.reshape(tf.mul(tf.addN(taps(tf, x, { window, fill: 0 })), share), out);
  }
  const ratio = inside.map((count, at) => count / divisor[at]!);
  const average = (x: TfTensor) => pooled(tf, "AvgPool", { x: toLast(tf, x), window });
  if (ratio.every((value) => value === 1)) return (x) => toFirst(tf, average(x), out);
  const share = site.keep(tf.tensor(ratio, [1, ...window.output, 1]));
  return (x) => toFirst(tf, tf.mul(average(x), share), out);
};

type Bounds = { before: readonly number[]; after: readonly number[] };

/** The pads as written: what count_include_pad counts, unlike the cells ceil_mode adds. */
function padsOf(site: OpSite, window: Window): Bounds {
  if (site.string("auto_pad", "NOTSET") !== "NOTSET") return window;
  const axes = site.ints("kernel_shape").length;
  const pads = site.ints("pads", new Array<number>(2 * axes).fill(0)).slice(axes);
  return { before: window.before, after: axes === 1 ? [0, pads[0]!] : pads };
}

/** How many cells of each window lie inside the input widened by `bounds`, row-major over the output. */
function counts(window: Window, bounds: Bounds): number[] {
  const along = (axis: 0 | 1): number[] =>
    Array.from({ length: window.output[axis] }, (_, at) => {
      const first = at * window.strides[axis] - window.before[axis];
      let count = 0;
      for (let tap = 0; tap < window.kernel[axis]; tap++) {
        const cell = first + tap * window.dilations[axis];
        if (cell >= -bounds.before[axis]! && cell < window.input[axis] + bounds.after[axis]!) count++;
      }
      return count;
    });
  const columns = along(1);
  return along(0).flatMap((row) => columns.map((column) => row * column));
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
