import fc from "fast-check";
import type { DType } from "../../src/ir.ts";
import { int64, tensorOf } from "../../src/tensor.ts";
import { broadcastPair, node, numeric, shapes, tensor } from "../arbitrary.ts";
import { axisOf, type Case } from "./draw-families.ts";

export const slice: Case = {
  arbitrary: shapes({ min: 1, max: 4 }).chain((shape) => {
    const bound = fc.oneof(fc.integer({ min: -6, max: 6 }), fc.constantFrom(2n ** 63n - 1n, -(2n ** 63n)));
    const cut = fc.tuple(bound, bound, fc.constantFrom(1, 2, -1, -2));
    const all = shape.map((_, axis) => axis);
    return fc
      .tuple(
        tensor({ dtype: "int64", shape }),
        fc.subarray(all, { minLength: 1 }),
        fc.tuple(...all.map(() => cut)),
      )
      .map(([x, axes, cuts]) => {
        const part = (k: 0 | 1 | 2) => int64(axes.map((axis) => cuts[axis]![k]));
        return { node: node("Slice", 5), feeds: [x, part(0), part(1), int64(axes), part(2)] };
      });
  }),
};

export const gather: Case = {
  arbitrary: fc.tuple(shapes({ min: 1, max: 3 }), shapes({ min: 0, max: 2 })).chain(([shape, picks]) =>
    axisOf(shape.length).chain((axis) => {
      const size = shape.at(axis)!;
      return fc
        .tuple(
          tensor({ dtype: "float32", shape }),
          tensor({ dtype: "int64", shape: picks }, { min: -size, max: size - 1 }),
        )
        .map((feeds) => ({ node: node("Gather", 2, { attributes: { axis } }), feeds }));
    }),
  ),
};

export const gatherElements: Case = {
  arbitrary: shapes({ min: 1, max: 3 }).chain((shape) =>
    fc.nat(shape.length - 1).chain((axis) => {
      const size = shape[axis]!;
      const index = { dtype: "int64" as const, shape: shape.with(axis, 3) };
      return fc
        .tuple(tensor({ dtype: "float32", shape }), tensor(index, { min: -size, max: size - 1 }))
        .map((feeds) => ({ node: node("GatherElements", 2, { attributes: { axis } }), feeds }));
    }),
  ),
};

export const gatherND: Case = {
  arbitrary: fc.tuple(shapes({ min: 2, max: 4 }), fc.nat(1), fc.nat(2)).chain(([shape, batch, more]) => {
    const depth = Math.min(1 + more, shape.length - batch);
    const picked = shape.slice(batch, batch + depth);
    const least = Math.min(...picked);
    const index = { dtype: "int64" as const, shape: [...shape.slice(0, batch), 3, depth] };
    return fc
      .tuple(tensor({ dtype: "float32", shape }), tensor(index, { min: -least, max: least - 1 }))
      .map((feeds) => ({ node: node("GatherND", 2, { attributes: { batch_dims: batch } }), feeds }));
  }),
};

export const scatterND: Case = {
  arbitrary: fc
    .tuple(shapes({ min: 1, max: 3 }), fc.constantFrom("none", "add", "mul"), numeric())
    .chain(([shape, reduction, dtype]) => {
      // Distinct rows: with reduction none the standard leaves the order of duplicates open.
      const rows = fc.subarray(
        Array.from({ length: shape[0]! }, (_, i) => i),
        { minLength: 1 },
      );
      return rows.chain((picked) =>
        fc
          .tuple(tensor({ dtype, shape }), tensor({ dtype, shape: [picked.length, ...shape.slice(1)] }))
          .map(([x, updates]) => ({
            node: node("ScatterND", 3, { attributes: { reduction } }),
            feeds: [x, int64(picked, [picked.length, 1]), updates],
          })),
      );
    }),
};

export const concat: Case = {
  arbitrary: fc
    .tuple(
      shapes({ min: 1, max: 4 }),
      fc.array(fc.integer({ min: 0, max: 3 }), { minLength: 1, maxLength: 4 }),
      numeric(),
    )
    .chain(([shape, sizes, dtype]) =>
      axisOf(shape.length).chain((axis) => {
        const parts = sizes.map((size) => tensor({ dtype, shape: shape.with(axis, size) }));
        return fc
          .tuple(...parts)
          .map((feeds) => ({ node: node("Concat", sizes.length, { attributes: { axis } }), feeds }));
      }),
    ),
};

export const split: Case = {
  arbitrary: fc
    .tuple(shapes({ min: 1, max: 3 }), fc.array(fc.nat(3), { minLength: 2, maxLength: 4 }))
    .chain(([shape, sizes]) =>
      fc.nat(shape.length - 1).chain((axis) => {
        const total = sizes.reduce((a, b) => a + b, 0);
        return tensor({ dtype: "float32", shape: shape.with(axis, total) }).map((x) => ({
          node: node("Split", 2, { attributes: { axis }, outputs: sizes.length }),
          feeds: [x, int64(sizes)],
        }));
      }),
    ),
};

export const transpose: Case = {
  arbitrary: shapes({ min: 1, max: 4 }).chain((shape) => {
    const all = shape.map((_, axis) => axis);
    return fc
      .tuple(tensor({ dtype: "float32", shape }), fc.shuffledSubarray(all, { minLength: all.length }))
      .map(([x, perm]) => ({ node: node("Transpose", 1, { attributes: { perm } }), feeds: [x] }));
  }),
};

export const reshape: Case = {
  arbitrary: shapes({ min: 1, max: 4 }).chain((shape) =>
    fc.tuple(tensor({ dtype: "int32", shape }), fc.nat(shape.length - 1)).map(([x, free]) => {
      // Reversed sizes with one left open; the first kept by a 0 where it is the same.
      const asked = shape
        .toReversed()
        .map((size, axis) => (axis === free ? -1 : size === shape[axis] ? 0 : size));
      return { node: node("Reshape", 2), feeds: [x, int64(asked)] };
    }),
  ),
};

export const expand: Case = {
  arbitrary: broadcastPair.chain(([a, b]) =>
    tensor({ dtype: "float32", shape: a }).map((x) => ({ node: node("Expand", 2), feeds: [x, int64(b)] })),
  ),
};

export const where: Case = {
  arbitrary: fc
    .tuple(broadcastPair, numeric())
    .chain(([[a, b], dtype]) =>
      fc
        .tuple(tensor({ dtype: "bool", shape: a }), tensor({ dtype, shape: b }), tensor({ dtype, shape: [] }))
        .map((feeds) => ({ node: node("Where", 3), feeds })),
    ),
};

export const cumsum: Case = {
  arbitrary: fc
    .tuple(shapes({ min: 1, max: 3 }), numeric(), fc.nat(1), fc.nat(1))
    .chain(([shape, dtype, exclusive, reverse]) =>
      fc.tuple(tensor({ dtype, shape }), axisOf(shape.length)).map(([x, axis]) => ({
        node: node("CumSum", 2, { attributes: { exclusive, reverse } }),
        feeds: [x, int64([axis], [])],
      })),
    ),
};

export const tile: Case = {
  arbitrary: shapes({ min: 1, max: 3 }).chain((shape) =>
    fc
      .tuple(tensor({ dtype: "float32", shape }), fc.tuple(...shape.map(() => fc.nat(3))))
      .map(([x, repeats]) => ({ node: node("Tile", 2), feeds: [x, int64(repeats)] })),
  ),
};

export function pad(mode: string): Case {
  const arbitrary = fc
    .array(fc.integer({ min: 3, max: 5 }), { minLength: 1, maxLength: 3 })
    .chain((shape) =>
      fc
        .tuple(
          tensor({ dtype: "float32", shape }),
          fc.tuple(
            ...[...shape, ...shape].map(() => fc.integer({ min: mode === "constant" ? -1 : 0, max: 2 })),
          ),
        )
        .map(([x, pads]) => ({ node: node("Pad", 2, { attributes: { mode } }), feeds: [x, int64(pads)] })),
    );
  return { arbitrary };
}

export const onehot: Case = {
  arbitrary: shapes({ min: 1, max: 3 }).chain((shape) =>
    fc
      .tuple(tensor({ dtype: "int64", shape }, { min: -5, max: 4 }), axisOf(shape.length + 1))
      .map(([x, axis]) => ({
        node: node("OneHot", 3, { attributes: { axis } }),
        feeds: [x, int64([5], []), tensorOf("float32", [2], [-1, 1])],
      })),
  ),
};

export const trilu: Case = {
  arbitrary: fc
    .tuple(shapes({ min: 2, max: 3 }), fc.integer({ min: -3, max: 3 }), fc.nat(1))
    .chain(([shape, k, upper]) =>
      tensor({ dtype: "float32", shape }).map((x) => ({
        node: node("Trilu", 2, { attributes: { upper } }),
        feeds: [x, int64([k], [])],
      })),
    ),
};

export const range: Case = {
  arbitrary: fc
    .tuple(fc.integer({ min: -5, max: 5 }), fc.integer({ min: -5, max: 5 }), fc.constantFrom(1, 2, -1, -3))
    .map((parts) => ({
      node: node("Range", 3),
      feeds: parts.map((value) => int64([value], [])),
    })),
};

export const cast: Case = {
  // Within the smallest type's range, since overflow is undefined; halves are exact here.
  arbitrary: fc
    .tuple(
      fc.constantFrom<DType[]>("float32", "int64", "int32", "bool", "float16"),
      fc.constantFrom(1, 6, 7, 9, 10, 11),
    )
    .chain(([dtype, to]) =>
      tensor({ dtype, shape: [7] }).map((x) => ({
        node: node("Cast", 1, { attributes: { to } }),
        feeds: [x],
      })),
    ),
};

export const clip: Case = {
  arbitrary: shapes({ min: 0, max: 3 }).chain((shape) =>
    tensor({ dtype: "float32", shape }).map((x) => ({
      node: node("Clip", 3),
      feeds: [x, tensorOf("float32", [], [-1.5]), tensorOf("float32", [], [2.5])],
    })),
  ),
};

export const nonzero: Case = {
  arbitrary: shapes({ min: 1, max: 3 }).chain((shape) =>
    tensor({ dtype: "bool", shape }).map((x) => ({ node: node("NonZero", 1), feeds: [x] })),
  ),
};
