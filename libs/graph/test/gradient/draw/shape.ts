import fc from "fast-check";
import { axisOf, bit, broadcasting, type Draw, type Draws, dims, held, ints, oneOf, size } from "./draw.ts";

const product = (shape: readonly number[]) => shape.reduce((a, b) => a * b, 1);
const front = (axis: number, rank: number) => (axis < 0 ? axis + rank : axis);

const reshape: Draw = fc.tuple(dims(0, 3), fc.nat(3)).map(([shape, way]) => {
  const total = product(shape);
  return { inputs: [{ shape }, held(...[[-1], [1, total], [total, 1, -1], [...shape, 1]][way]!)] };
});

const squeeze: Draw = fc.tuple(dims(1, 2), oneOf(9, 13, 18), fc.boolean()).map(([shape, opset, all]) => ({
  inputs: [{ shape: [1, ...shape, 1] }],
  attributes: all ? {} : { axes: [0] },
  opset,
}));

const unsqueeze: Draw = fc
  .tuple(dims(0, 2), oneOf(9, 13), oneOf([0], [0, 1], [1]))
  .map(([shape, opset, axes]) => ({
    inputs: [{ shape }],
    attributes: { axes: axes.filter((axis) => axis <= shape.length) },
    opset,
  }));

const transpose: Draw = dims(1, 4).chain((shape) =>
  fc
    .option(fc.shuffledSubarray([...shape.keys()], { minLength: shape.length, maxLength: shape.length }))
    .map((perm) => ({ inputs: [{ shape }], attributes: perm ? { perm } : {} })),
);

const expand: Draw = broadcasting(2).map(([shape, target]) => ({
  inputs: [{ shape: shape! }, held(...target!)],
}));

const tile: Draw = dims(1, 3).chain((shape) =>
  fc
    .array(fc.integer({ min: 1, max: 2 }), { minLength: shape.length, maxLength: shape.length })
    .map((repeats) => ({ inputs: [{ shape }, held(...repeats)] })),
);

const concat: Draw = fc.tuple(dims(1, 3), dims(1, 3)).chain(([shape, lengths]) =>
  axisOf(shape.length).map((axis) => ({
    inputs: lengths.map((length) => ({ shape: shape.with(front(axis, shape.length), length) })),
    attributes: { axis },
  })),
);

const split: Draw = fc.tuple(dims(1, 3), dims(2, 3)).chain(([shape, lengths]) =>
  axisOf(shape.length).map((axis) => ({
    inputs: [
      {
        shape: shape.with(
          front(axis, shape.length),
          lengths.reduce((a, b) => a + b, 0),
        ),
      },
      held(...lengths),
    ],
    attributes: { axis },
    outputs: lengths.length,
  })),
);

/** Bounds from either end, steps in either direction; never nothing. */
const slice: Draw = dims(1, 3).chain((shape) =>
  fc
    .tuple(
      axisOf(shape.length),
      fc.integer({ min: -4, max: 4 }),
      fc.integer({ min: -4, max: 4 }),
      oneOf(-2, -1, 1, 2),
    )
    .filter(([axis, start, end, by]) => {
      const length = shape[front(axis, shape.length)]!;
      const [low, high] = by > 0 ? [0, length] : [-1, length - 1];
      const clamp = (at: number) => Math.min(Math.max(at < 0 ? at + length : at, low), high);
      return (clamp(end) - clamp(start)) * by > 0;
    })
    .map(([axis, start, end, by]) => ({ inputs: [{ shape }, held(start), held(end), held(axis), held(by)] })),
);

/** Constants may crop; the other modes turn once, as onnxruntime has them. */
const pad: Draw = dims(1, 3).chain((shape) =>
  fc
    .tuple(
      oneOf("constant", "constant", "reflect", "edge", "wrap"),
      fc.array(fc.integer({ min: -1, max: 2 }), { minLength: 2 * shape.length, maxLength: 2 * shape.length }),
    )
    .map(([mode, drawn]) => {
      const most = (length: number) => (mode === "reflect" ? length - 1 : length);
      const both = [...shape, ...shape];
      if (mode !== "constant") {
        const pads = drawn.map((edge, i) => Math.min(Math.max(edge, 0), most(both[i]!)));
        return { inputs: [{ shape }, held(...pads)], attributes: { mode }, opset: 19 };
      }
      // At least one value stays.
      const pads = drawn.map((edge, i) => (i < shape.length || both[i]! > 2 ? edge : Math.max(edge, 0)));
      const ready = pads.map((edge, i) => (both[i] === 1 ? Math.max(edge, 0) : edge));
      return { inputs: [{ shape }, held(...ready), { shape: [] }], opset: 19 };
    }),
);

const trilu: Draw = fc.tuple(dims(2, 3), bit, fc.integer({ min: -2, max: 2 })).map(([shape, upper, k]) => ({
  inputs: [{ shape }, ints([], [k])],
  attributes: { upper },
}));

const cumulate: Draw = dims(1, 3).chain((shape) =>
  fc.tuple(axisOf(shape.length), bit, bit).map(([axis, reverse, exclusive]) => ({
    inputs: [{ shape }, ints([], [axis])],
    attributes: { reverse, exclusive },
  })),
);

export const SHAPE: Draws = {
  Reshape: reshape,
  Flatten: dims(1, 3).chain((shape) =>
    axisOf(shape.length).map((axis) => ({ inputs: [{ shape }], attributes: { axis } })),
  ),
  Squeeze: squeeze,
  Unsqueeze: unsqueeze,
  Transpose: transpose,
  Expand: expand,
  Tile: tile,
  Concat: concat,
  Split: split,
  Slice: slice,
  Pad: pad,
  Trilu: trilu,
  CumSum: cumulate,
  DepthToSpace: fc.tuple(size, size, oneOf("DCR", "CRD")).map(([height, width, mode]) => ({
    inputs: [{ shape: [1, 8, height, width] }],
    attributes: { blocksize: 2, mode },
  })),
  SpaceToDepth: fc.tuple(size, size).map(([height, width]) => ({
    inputs: [{ shape: [1, 2, 2 * height, 2 * width] }],
    attributes: { blocksize: 2 },
  })),
};
