import { sizeOf } from "../../ir.ts";
import { tensorOf } from "../../tensor.ts";
import { choose, expandTo, filled } from "./broadcast.ts";
import { upload } from "./convert.ts";
import type { Operator, OpSite } from "./op-site.ts";
import type { Kernel, Tf, TfTensor } from "./tfjs.ts";

/** What only renames the shape: the traced graph already knows it, so shape inputs are not read. */
const renamed: Operator = (site, tf) => {
  const shape = site.shapeOut();
  site.skipFrom(1);
  return (x) => tf.reshape(x, shape);
};

export const Reshape = renamed;
export const Flatten = renamed;
export const Squeeze = renamed;
export const Unsqueeze = renamed;

export const Transpose: Operator = (site, tf) => {
  const rank = site.rank(0);
  const reversed = Array.from({ length: rank }, (_, axis) => rank - 1 - axis);
  const perm = [...site.ints("perm", reversed)];
  const shape = site.shapeOut();
  // Where only axes of size 1 move, the order in memory stays.
  const moving = perm.filter((axis) => site.shape(0)[axis] !== 1);
  const still = moving.every((axis, at) => at === 0 || moving[at - 1]! < axis);
  if (still || sizeOf(shape) === 0) return (x) => tf.reshape(x, shape);
  return (x) => tf.transpose(x, perm);
};

export const Concat: Operator = (site, tf) => {
  const axis = site.axis(site.int("axis"), site.result().shape.length);
  const shape = site.shapeOut();
  return (...inputs) => {
    const filledOnes = inputs.filter((input) => sizeOf(input.shape) > 0);
    if (filledOnes.length === 0) return tf.reshape(inputs[0]!, shape);
    return filledOnes.length === 1 ? filledOnes[0]! : tf.concat(filledOnes, axis);
  };
};

/** Sizes come from the traced outputs, so `split`, whether attribute or input, need not be read. */
export const Split: Operator = (site, tf) => {
  const axis = site.axis(site.int("axis", 0), site.rank(0));
  const shapes = site.node.outputs.map((name, index) => (name === "" ? undefined : site.shapeOut(index)));
  site.skip(1);
  if (shapes.some((shape) => shape === undefined))
    throw site.fault("unsupported", "outputs", { expected: "all of them named", got: "one left out" });
  return (x) => {
    let at = 0;
    return shapes.map((shape) => {
      const begin = shape!.map((_, dimension) => (dimension === axis ? at : 0));
      at += shape![axis]!;
      return sizeOf(shape!) === 0 ? tf.zeros(shape!, x.dtype) : tf.slice(x, begin, shape!);
    });
  };
};

type Cut = { axis: number; begin: number; step: number };

/** Bounds must be known at load. Steps: tfjs's strided slice, which on wasm knows floats and forward only. */
export const Slice: Operator = (site, tf) => {
  const shape = site.shapeOut();
  const cuts = cutsOf(site);
  site.skip(1, 2, 3, 4);
  const type = site.typeOut();
  if (sizeOf(shape) === 0) return () => filled(tf, shape, { value: 0, type });
  const begin = shape.map((_, axis) => cuts.find((cut) => cut.axis === axis && cut.step === 1)?.begin ?? 0);
  const strided = cuts.filter((cut) => cut.step !== 1);
  if (strided.length > 0 && type === "float32" && strided.every((cut) => cut.step > 0))
    return stridedFloats(site, tf, cuts);
  const size = shape.map((length, axis) =>
    strided.some((cut) => cut.axis === axis) ? site.shape(0)[axis]! : length,
  );
  const picks = strided.map(({ axis, begin: from, step }) => {
    const at = Array.from({ length: shape[axis]! }, (_, index) => from + index * step);
    return { axis, at: site.keep(tf.tensor1d(at, "int32")) };
  });
  const whole = size.every((length, axis) => length === site.shape(0)[axis]);
  return (x) => {
    const block = whole ? x : tf.slice(x, begin, size);
    return picks.reduce((rest, { axis, at }) => tf.gather(rest, at as never, axis), block);
  };
};

function stridedFloats(site: OpSite, tf: Tf, cuts: readonly Cut[]): Kernel {
  const shape = site.shapeOut();
  const begin = shape.map((_, axis) => cuts.find((cut) => cut.axis === axis)?.begin ?? 0);
  const step = shape.map((_, axis) => cuts.find((cut) => cut.axis === axis)?.step ?? 1);
  const end = shape.map((length, axis) => begin[axis]! + (length - 1) * step[axis]! + 1);
  return (x) => tf.stridedSlice(x, begin, end, step);
}

/** Attributes before operator set 10, inputs after; ends are not needed, the traced shape says how many. */
function cutsOf(site: OpSite): Cut[] {
  const starts = site.list("starts", 1) ?? [];
  const axes = site.list("axes", 3) ?? starts.map((_, index) => index);
  const steps = site.has(4) ? site.numbers(4) : starts.map(() => 1);
  return starts.map((start, index) => {
    const axis = site.axis(axes[index]!, site.rank(0));
    const length = site.shape(0)[axis]!;
    const step = steps[index]!;
    const low = start < 0 ? start + length : start;
    const begin = Math.min(Math.max(low, 0), step > 0 ? length : length - 1);
    return { axis, begin, step };
  });
}

export const Expand: Operator = (site, tf) => {
  const shape = site.shapeOut();
  site.skip(1);
  return (x) => expandTo(tf, x, shape);
};

/** [a, b] tiled (p, q) is [1, a, 1, b] expanded to [p, a, q, b]; wasm's own tile is far slower. */
export const Tile: Operator = (site, tf) => {
  const shape = site.shapeOut();
  site.skip(1);
  const dims = site.shape(0);
  const apart = dims.flatMap((size) => [1, size]);
  const wide = dims.flatMap((size, axis) => [size === 0 ? 1 : shape[axis]! / size, size]);
  if (sizeOf(shape) === 0) return () => filled(tf, shape, { value: 0, type: site.typeOut() });
  return (x) => tf.reshape(expandTo(tf, tf.reshape(x, apart), wide), shape);
};

/** Values that depend on shapes alone, which tracing has fixed. */
const known =
  (values: (site: OpSite) => readonly number[]): Operator =>
  (site, tf) => {
    const { dtype, shape } = site.result();
    const made = site.keep(upload(tf, tensorOf(dtype, shape, values(site)), site.node.op));
    site.skipFrom(0);
    return () => tf.clone(made);
  };

export const Shape = known((site) =>
  site.shape(0).slice(site.int("start", 0), site.int("end", site.rank(0))),
);
export const Size = known((site) => [sizeOf(site.shape(0))]);

export const ConstantOfShape: Operator = (site, tf) => {
  const found = site.node.attributes.get("value");
  const value = found?.kind === "tensor" ? Number(found.value.data[0]) : 0;
  const options = { value, type: site.typeOut() };
  const shape = site.shapeOut();
  site.skip(0);
  return () => filled(tf, shape, options);
};

/** How many steps is the traced length; start and step may be computed. */
export const Range: Operator = (site, tf) => {
  const length = site.shapeOut()[0]!;
  site.skip(1);
  const counts = site.keep(counted(site, tf, length));
  return ((start, _, step) => tf.add(tf.mul(counts, step), start)) as Kernel;
};

/** 0, 1, 2, … as long as an engine can hold them beside all else: nobody else bounds how long. */
function counted(site: OpSite, tf: Tf, length: number, type = site.typeOut()): TfTensor {
  if (length > MOST_COUNTED)
    throw site.fault("unsupported", "length", { expected: `at most ${MOST_COUNTED}`, got: `${length}` });
  const values = type === "float32" ? new Float32Array(length) : new Int32Array(length);
  return tf.tensor1d(
    values.map((_, index) => index),
    type as "int32",
  );
}

const MOST_COUNTED = 2 ** 26;

/** Ones on the k-th diagonal; of the input only the shape counts. Compared, not listed. */
export const EyeLike: Operator = (site, tf) => {
  const shape = site.shapeOut();
  const [rows, columns] = shape as [number, number];
  const type = site.typeOut();
  const k = site.int("k", 0);
  site.skipFrom(0);
  // A load computes it at once, as it does all that reads no feed.
  if (sizeOf(shape) > MOST_COUNTED)
    throw site.fault("unsupported", "elements", {
      expected: `at most ${MOST_COUNTED}`,
      got: `${sizeOf(shape)}`,
    });
  if (sizeOf(shape) === 0) return () => filled(tf, shape, { value: 0, type });
  const down = Int32Array.from({ length: rows }, (_, row) => row + k);
  const first = site.keep(tf.tensor2d(down, [rows, 1], "int32"));
  const across = site.keep(tf.tidy(() => tf.reshape(counted(site, tf, columns, "int32"), [1, columns])));
  return () => tf.cast(tf.equal(across, first), type);
};

/** Keeps the lower or upper triangle of the last two axes, k diagonals off; even NaN outside becomes 0. */
export const Trilu: Operator = (site, tf) => {
  const shape = site.shapeOut();
  const [rows, columns] = [shape.at(-2)!, shape.at(-1)!];
  const upper = site.int("upper", 1) !== 0;
  const type = site.typeOut();
  const cut = (x: TfTensor, mask: TfTensor) =>
    choose(tf, expandTo(tf, mask, shape), [x, filled(tf, shape, { value: 0, type })]);
  if (sizeOf(shape) === 0) return (x) => x;
  const diagonals = Int32Array.from(
    { length: rows * columns },
    (_, at) => (at % columns) - Math.floor(at / columns),
  );
  const inside = (k: TfTensor) => {
    const places = tf.tensor(diagonals, [rows, columns], "int32");
    return upper ? tf.greaterEqual(places, k) : tf.lessEqual(places, k);
  };
  if (site.has(1) && !site.constant(1)) return (x, k) => cut(x, inside(tf.reshape(k!, [])));
  const k = site.has(1) ? site.numbers(1)[0]! : 0;
  site.skip(1);
  const mask = site.keep(tf.tidy(() => inside(tf.scalar(k, "int32"))));
  return (x) => cut(x, mask);
};

export const CumSum: Operator = (site, tf) => {
  const axis = site.axis(site.numbers(1)[0]!, site.rank(0));
  const exclusive = site.int("exclusive", 0) !== 0;
  const reverse = site.int("reverse", 0) !== 0;
  site.skip(1);
  if (sizeOf(site.shape(0)) === 0) return (x) => tf.clone(x);
  return (x) => tf.cumsum(x, axis, exclusive, reverse);
};

/** Blocks of channels become blocks of pixels; mode says which way the channels count. */
export const DepthToSpace: Operator = (site, tf) => {
  const [n, c, h, w] = site.shape(0) as [number, number, number, number];
  const b = site.int("blocksize");
  const rest = c / (b * b);
  const rowsFirst = site.string("mode", "DCR") === "DCR";
  const split = rowsFirst ? [n, b, b, rest, h, w] : [n, rest, b, b, h, w];
  const perm = rowsFirst ? [0, 3, 4, 1, 5, 2] : [0, 1, 4, 2, 5, 3];
  const shape = site.shapeOut();
  if (sizeOf(shape) === 0) return (x) => tf.reshape(x, shape);
  return (x) => tf.reshape(tf.transpose(tf.reshape(x, split), perm), shape);
};

/** The other way, in DepthToSpace's DCR order. */
export const SpaceToDepth: Operator = (site, tf) => {
  const [n, c, h, w] = site.shape(0) as [number, number, number, number];
  const b = site.int("blocksize");
  const shape = site.shapeOut();
  if (sizeOf(shape) === 0) return (x) => tf.reshape(x, shape);
  return (x) =>
    tf.reshape(tf.transpose(tf.reshape(x, [n, c, h / b, b, w / b, b]), [0, 3, 5, 1, 2, 4]), shape);
};
