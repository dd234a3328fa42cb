import fc from "fast-check";
import type { Input } from "../measure.ts";
import { axisOf, type Draw, type Draws, dims, fill, held, int32, ints, oneOf, size } from "./draw.ts";

const front = (axis: number, rank: number) => (axis < 0 ? axis + rank : axis);

/** Any axis, repeats, negative indices, a scalar, a vector or a matrix of them; fed or constant. */
const gather: Draw = dims(1, 3).chain((short) =>
  fc
    .tuple(axisOf(short.length), dims(0, 2), fc.boolean(), oneOf(2, 5))
    .chain(([axis, places, fed, length]) => {
      const shape = short.with(front(axis, short.length), length);
      return fill(places, -length, length - 1).map((indices) => ({
        inputs: [{ shape }, ints(places, indices, fed)],
        attributes: { axis },
      }));
    }),
);

/** The indices may be shorter than the data along the other axes. */
const gatherElements: Draw = dims(1, 3).chain((shape) =>
  fc.tuple(axisOf(shape.length), size, fc.boolean()).chain(([axis, count, fed]) => {
    const length = shape[front(axis, shape.length)]!;
    const places = shape.with(front(axis, shape.length), count);
    return fill(places, -length, length - 1).map((indices) => ({
      inputs: [{ shape }, ints(places, indices, fed)],
      attributes: { axis },
    }));
  }),
);

/** Tuples that name rows or cells, in shared leading dimensions or none. */
const gatherND: Draw = fc
  .tuple(dims(3, 3), oneOf(0, 1), oneOf(1, 2), size, fc.boolean())
  .chain(([shape, batch_dims, depth, count, fed]) => {
    const places = [...shape.slice(0, batch_dims), count, depth];
    return tuples(shape.slice(batch_dims), places).map((indices) => ({
      inputs: [{ shape }, ints(places, indices, fed)],
      attributes: { batch_dims },
    }));
  });

/** Index tuples along the last axis of `places`, each within its own size. */
function tuples(shape: readonly number[], places: readonly number[]): fc.Arbitrary<number[]> {
  const depth = places.at(-1)!;
  return fill(places, 0, 5).map((values) =>
    values.map((value, at) => {
      const length = shape[at % depth]!;
      return (value % (2 * length)) - length;
    }),
  );
}

const REDUCTIONS = ["none", "add", "mul", "max", "min"] as const;

/** Who wins among repeated indices the standard leaves open, so without a reduction there are none. */
const unique = (values: readonly number[], length: number) =>
  new Set(values.map((value) => front(value, length))).size === values.length;

const scatterND: Draw = fc
  .tuple(oneOf(...REDUCTIONS), size, size, size, fc.boolean())
  .map(([reduction, rows, width, asked, fed]) => {
    // As many different rows as there are: else none that are drawn would do.
    const count = reduction === "none" ? Math.min(asked, rows) : asked;
    return [reduction, rows, width, count, fed] as const;
  })
  .chain(([reduction, rows, width, count, fed]) =>
    fill([count], -rows, rows - 1)
      .filter((indices) => reduction !== "none" || unique(indices, rows))
      .map((indices) => ({
        inputs: [{ shape: [rows, width] }, ints([count, 1], indices, fed), { shape: [count, width] }],
        attributes: { reduction },
        opset: 18,
      })),
  );

const scatterElements: Draw = fc
  .tuple(oneOf(...REDUCTIONS), dims(1, 2), fc.boolean())
  .chain(([reduction, shape, fed]) =>
    fc.tuple(axisOf(shape.length), size).chain(([axis, asked]) => {
      const along = front(axis, shape.length);
      const length = shape[along]!;
      const count = reduction === "none" ? Math.min(asked, length) : asked;
      const places = shape.with(along, count);
      const picked =
        reduction === "none"
          ? fc.shuffledSubarray([...Array(length).keys()], { minLength: count, maxLength: count })
          : undefined;
      // Without a reduction the same places in every lane: no two updates meet.
      const indices = picked
        ? picked.map((lane) => laid(places, along, lane))
        : fill(places, -length, length - 1);
      return indices.map((values) => ({
        inputs: [{ shape }, ints(places, values, fed), { shape: places }],
        attributes: { axis, reduction },
        opset: 18,
      }));
    }),
  );

/** A tensor in which every lane along an axis holds the same values. */
function laid(shape: readonly number[], axis: number, lane: readonly number[]): number[] {
  const inner = shape.slice(axis + 1).reduce((a, b) => a * b, 1);
  const total = shape.reduce((a, b) => a * b, 1);
  return Array.from({ length: total }, (_, at) => lane[Math.floor(at / inner) % shape[axis]!]!);
}

const topK: Draw = dims(1, 3).chain((shape) =>
  fc.tuple(axisOf(shape.length), oneOf(0, 1), fc.nat(5)).map(([axis, largest, pick]) => {
    const k = 1 + (pick % shape[front(axis, shape.length)]!);
    return { inputs: [{ shape }, held(k)], attributes: { axis, largest }, outputs: 2 };
  }),
);

/** Indices out of range light nothing; only the two values have a gradient. */
const oneHot: Draw = fc
  .tuple(dims(1, 2), size, oneOf(-1, 0, 1), fc.boolean())
  .chain(([shape, depth, axis, fed]) =>
    fill(shape, -depth - 1, depth).map((indices) => ({
      inputs: [ints(shape, indices, fed), ints([], [depth]), { shape: [2] }],
      attributes: { axis },
    })),
  );

export const INDEXING: Draws = {
  Gather: gather,
  GatherElements: gatherElements,
  GatherND: gatherND,
  ScatterND: scatterND,
  ScatterElements: scatterElements,
  TopK: topK,
  OneHot: oneHot,
};

/** Ids, segments or none, three tables, a norm. */
const embed: Draw = fc
  .tuple(fill([2, 2], 0, 3), fill([2, 2], 0, 1), fc.boolean())
  .map(([ids, kinds, segments]) => {
    const tables: readonly Input[] = [{ shape: [4, 3] }, { shape: [2, 3] }];
    return {
      inputs: [
        { tensor: int32([2, 2], ids), fed: true },
        segments ? { tensor: int32([2, 2], kinds) } : undefined,
        ...tables,
        segments ? { shape: [2, 3] } : undefined,
        { shape: [3] },
        { shape: [3] },
      ],
    };
  });

export const MICROSOFT_INDEXING: Draws = { EmbedLayerNormalization: embed };
