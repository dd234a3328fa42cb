import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { tfjsEngine } from "../../src/engines/tfjs/engine.ts";
import { sizeOf, type Tensor } from "../../src/ir.ts";
import { bools, dim, floats, integers, longs, property, shapeOf } from "./arbitrary.ts";
import { agrees, type Case, f32, graphOf, i32, i64, onTfjs, tf } from "./harness.ts";

const count = (shape: readonly number[]): Tensor =>
  f32(
    shape,
    Float32Array.from({ length: sizeOf(shape) }, (_, i) => i),
  );
const typed = (shape: readonly number[]) =>
  fc.oneof(floats(shape), longs(shape), bools(shape)) as fc.Arbitrary<Tensor>;
const within = (shape: readonly number[], size: number) =>
  integers(shape, -size, size - 1).map((values) => i64(shape, values));

describe("Gather", () => {
  test("any axis, any type, negative indices, scalar indices, constant or fed", () =>
    property(
      fc.tuple(shapeOf(1, 4), shapeOf(0, 3)).chain(([shape, index]) =>
        fc.integer({ min: -shape.length, max: shape.length - 1 }).chain((axis) =>
          fc
            .tuple(typed(shape), within(index, shape.at(axis)!), fc.subarray([0, 1]))
            .map(([x, indices, constant]) => ({
              op: "Gather",
              attributes: { axis },
              inputs: [x, indices],
              constant,
            })),
        ),
      ),
      { runs: 25 },
    ));
  test("int32 indices and none at all", async () => {
    await agrees({ op: "Gather", inputs: [count([3, 2]), i32([2], [2, 0])] });
    await agrees({ op: "Gather", inputs: [count([3, 2]), i64([0], [])] });
  });
});

describe("GatherND", () => {
  test("any depth and batch, constant or fed", () =>
    property(
      shapeOf(1, 4).chain((shape) =>
        fc.nat(shape.length - 1).chain((batch_dims) =>
          fc
            .tuple(fc.integer({ min: 1, max: shape.length - batch_dims }), shapeOf(0, 2))
            .chain(([k, middle]) => {
              const index = [...shape.slice(0, batch_dims), ...middle, k];
              const entries = sizeOf(index) / k;
              const each = shape
                .slice(batch_dims, batch_dims + k)
                .map((size) => fc.integer({ min: -size, max: size - 1 }));
              return fc
                .tuple(
                  typed(shape),
                  fc.array(fc.tuple(...each), { minLength: entries, maxLength: entries }),
                  fc.subarray([1]),
                )
                .map(([x, tuples, constant]) => ({
                  op: "GatherND",
                  attributes: { batch_dims },
                  inputs: [x, i64(index, tuples.flat())],
                  constant,
                }));
            }),
        ),
      ),
      { runs: 25 },
    ));
});

/** Data, an axis, and indices of a shape no larger than the data's off the axis. */
const elements = shapeOf(1, 4).chain((shape) =>
  fc.nat(shape.length - 1).chain((axis) =>
    fc.tuple(dim, fc.boolean()).chain(([along, less]) => {
      const index = shape.map((size, d) => (d === axis ? along : less ? Math.max(1, size - 1) : size));
      return fc.record({
        x: floats(shape),
        axis: fc.constant(axis),
        indices: within(index, shape[axis]!),
        updates: floats(index),
      });
    }),
  ),
);

describe("by element", () => {
  test("GatherElements", () =>
    property(
      fc.tuple(elements, fc.subarray([0, 1])).map(([{ x, axis, indices }, constant]) => ({
        op: "GatherElements",
        attributes: { axis },
        inputs: [x, indices],
        constant,
      })),
      { runs: 20 },
    ));
  test("ScatterElements that adds, duplicates and all", () =>
    property(
      fc.tuple(elements, fc.subarray([0, 1])).map(([{ x, axis, indices, updates }, constant]) => ({
        op: "ScatterElements",
        opset: 16,
        attributes: { axis, reduction: "add" },
        inputs: [x, indices, updates],
        constant,
      })),
      { runs: 20 },
    ));
  test("ScatterElements that multiplies or keeps the least or greatest, duplicates and all", () =>
    property(
      fc
        .tuple(elements, fc.subarray([0, 1]), fc.constantFrom("mul", "min", "max"))
        .map(([{ x, axis, indices, updates }, constant, reduction]) => ({
          op: "ScatterElements",
          opset: 18,
          attributes: { axis, reduction },
          inputs: [x, indices, updates],
          constant,
        })),
      { runs: 20 },
    ));
  test("ScatterElements that writes", () =>
    agrees({
      op: "ScatterElements",
      opset: 16,
      attributes: { axis: 1 },
      inputs: [count([2, 3]), i64([2, 2], [2, -3, 1, 0]), f32([2, 2], [9, 8, 7, 6])],
    }));
});

describe("ScatterND", () => {
  test("adds, duplicates and all, onto zeros or not", () =>
    property(
      shapeOf(1, 3).chain((shape) =>
        fc
          .tuple(fc.integer({ min: 1, max: shape.length }), dim, fc.boolean())
          .chain(([k, entries, zeros]) => {
            const each = shape.slice(0, k).map((size) => fc.integer({ min: -size, max: size - 1 }));
            return fc
              .tuple(
                floats(shape),
                fc.array(fc.tuple(...each), { minLength: entries, maxLength: entries }),
                floats([entries, ...shape.slice(k)]),
                fc.subarray([0, 1]),
              )
              .map(([x, tuples, updates, constant]) => ({
                op: "ScatterND",
                opset: 16,
                attributes: { reduction: "add" },
                inputs: [
                  zeros ? f32(shape, new Float32Array(sizeOf(shape))) : x,
                  i64([entries, k], tuples.flat()),
                  updates,
                ],
                constant,
              }));
          }),
      ),
      { runs: 25 },
    ));
  test("multiplies or keeps the least or greatest, a row met three times among them", async () => {
    const inputs = [count([4, 2]), i64([4, 1], [1, -3, 0, 1]), f32([4, 2], [9, -8, 7, 6, -5, 4, 0.5, 2])];
    for (const reduction of ["mul", "min", "max"])
      for (const constant of [[], [1]])
        await agrees({ op: "ScatterND", opset: 18, attributes: { reduction }, inputs, constant });
  });
  test("of integers", async () => {
    const inputs = [i64([3], [5, -6, 7]), i64([3, 1], [0, 0, 2]), i64([3], [4, 3, 8])];
    for (const reduction of ["add", "mul", "min", "max"])
      await agrees({ op: "ScatterND", opset: 18, attributes: { reduction }, inputs });
  });
  test("writes", () =>
    agrees({ op: "ScatterND", inputs: [count([4, 2]), i64([2, 1], [3, -4]), f32([2, 2], [9, 8, 7, 6])] }));
  test("of no updates", () =>
    agrees({
      op: "ScatterND",
      opset: 16,
      attributes: { reduction: "add" },
      inputs: [count([4, 2]), i64([0, 1], []), f32([0, 2], [])],
    }));
});

describe("OneHot", () => {
  test("any axis, indices beyond the depth, values of any type", () =>
    property(
      shapeOf(1, 3).chain((shape) =>
        fc
          .tuple(
            longs(shape, -6, 6),
            fc.integer({ min: -shape.length - 1, max: shape.length }),
            fc.constantFrom(f32([2], [-1, 3]), i64([2], [5, 7])),
            fc.subarray([0, 2]),
          )
          .map(([indices, axis, values, held]) => ({
            op: "OneHot",
            attributes: { axis },
            inputs: [indices, i64([], [4]), values],
            constant: [1, ...held],
          })),
      ),
      { runs: 16 },
    ));
});

describe("an index outside", () => {
  const outside: Case[] = [
    { op: "Gather", inputs: [count([3, 2]), i64([1], [3])] },
    { op: "GatherND", inputs: [count([3, 2]), i64([1, 2], [0, -3])] },
    { op: "GatherElements", inputs: [count([3, 2]), i64([1, 2], [7, 0])] },
    {
      op: "ScatterND",
      opset: 16,
      attributes: { reduction: "add" },
      inputs: [count([3]), i64([1, 1], [1000]), f32([1], [1])],
    },
  ];
  const shapes: Record<string, number[]> = {
    Gather: [1, 2],
    GatherND: [1],
    GatherElements: [1, 2],
    ScatterND: [3],
  };
  test.each(outside.flatMap((it) => ["wasm", "cpu"].map((backend) => [it.op, backend, it] as const)))(
    "of %s is refused on %s before memory is read, and leaves nothing behind",
    async (op, backend, it) => {
      await tf.setBackend(backend);
      const outputs = new Map([["y0", { dtype: "float32" as const, shape: shapes[op]! }]]);
      const before = tf.memory().numTensors;
      const program = await tfjsEngine(tf, backend).load(graphOf(it, outputs));
      const feeds = new Map(it.inputs.map((input, index) => [`x${index}`, input!]));
      await expect(program.step(feeds)).rejects.toThrow(/it" \(opset 1\d\): indices: expected within/);
      await program.dispose();
      expect(tf.memory().numTensors).toBe(before);
      await expect(onTfjs(backend, { ...it, constant: [1] }, outputs)).rejects.toThrow(
        /indices: expected within/,
      );
    },
  );
});

test("OneHot of infinite and of unlike values is each value itself", async () => {
  const inputs = (values: readonly number[]) => [i64([3], [0, 2, 1]), i64([1], [3]), f32([2], values)];
  for (const values of [
    [0, -Infinity],
    [-Infinity, 0],
    [1e8, 1],
  ])
    await agrees({ op: "OneHot", inputs: inputs(values), constant: [1] });
});

test("ScatterElements by min and max takes the update where one of the two is NaN", async () => {
  const [data, updates] = [f32([3], [1, Number.NaN, 4]), f32([3], [Number.NaN, 2, 3])];
  for (const reduction of ["min", "max"])
    await agrees({
      ...{ op: "ScatterElements", opset: 18, attributes: { reduction } },
      inputs: [data, i64([3], [0, 1, 2]), updates],
      constant: [1],
    });
});
