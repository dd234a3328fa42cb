import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { builderOn } from "../../src/builder.ts";
import { tfjsEngine } from "../../src/engines/tfjs/engine.ts";
import { sizeOf, type Tensor } from "../../src/ir.ts";
import { tensorOf } from "../../src/tensor.ts";
import { bools, broadcastable, dim, flag, floats, longs, property, shapeOf } from "./arbitrary.ts";
import { agrees, bool, f32, i32, i64, tf } from "./harness.ts";

const count = (shape: readonly number[]): Tensor =>
  f32(
    shape,
    Float32Array.from({ length: sizeOf(shape) }, (_, i) => i),
  );
const vector = (values: readonly number[]): Tensor => i64([values.length], values);
const typed = (shape: readonly number[]) =>
  fc.oneof(floats(shape), longs(shape), bools(shape)) as fc.Arbitrary<Tensor>;

describe("shape", () => {
  test("Transpose: any permutation of any type, or none given", () =>
    property(
      shapeOf(1, 6).chain((shape) =>
        fc
          .tuple(
            typed(shape),
            fc.option(fc.shuffledSubarray([...shape.keys()], { minLength: shape.length }), {
              nil: undefined,
            }),
          )
          .map(([x, perm]) => ({ op: "Transpose", attributes: perm ? { perm } : {}, inputs: [x] })),
      ),
      { runs: 25 },
    ));
  test("Reshape, Flatten, Squeeze, Unsqueeze", async () => {
    const x = count([2, 3, 4]);
    await agrees({ op: "Reshape", inputs: [x, vector([0, -1])], constant: [1] });
    await agrees({ op: "Flatten", attributes: { axis: 2 }, inputs: [x] });
    await agrees({ op: "Squeeze", inputs: [count([1, 3, 1]), vector([0, -1])], constant: [1] });
    await agrees({ op: "Squeeze", opset: 11, attributes: { axes: [0] }, inputs: [count([1, 3, 1])] });
    await agrees({ op: "Unsqueeze", inputs: [x, vector([0, -1])], constant: [1] });
    await agrees({ op: "Identity", inputs: [x] });
    await agrees({ op: "Shape", opset: 15, attributes: { start: 1 }, inputs: [x] });
    await agrees({ op: "Size", inputs: [x] });
    await agrees({
      op: "ConstantOfShape",
      attributes: { value: i64([1], [7]) },
      inputs: [vector([2, 3])],
      constant: [0],
    });
    await agrees({ op: "ConstantOfShape", inputs: [vector([0, 3])], constant: [0] });
    await agrees({ op: "Range", inputs: [i64([], [3]), i64([], [11]), i64([], [2])] });
    await agrees({
      op: "Range",
      inputs: [f32([], [3]), f32([], [-1]), f32([], [-0.5])],
      constant: [0, 1, 2],
    });
  });
  test("Concat: any axis, any type, empty parts", () =>
    property(
      shapeOf(1, 4).chain((shape) =>
        fc
          .tuple(fc.nat(shape.length - 1), fc.array(fc.nat(3), { minLength: 1, maxLength: 4 }), fc.boolean())
          .chain(([axis, sizes, isFloat]) => {
            const parts = sizes.map((size) => shape.with(axis, size));
            const of = isFloat ? floats : longs;
            return fc
              .tuple(...parts.map((part) => of(part) as fc.Arbitrary<Tensor>))
              .map((inputs) => ({ op: "Concat", attributes: { axis }, inputs }));
          }),
      ),
    ));
  test("Split: equal parts or sizes, attribute or input", async () => {
    const x = count([2, 6]);
    await agrees({
      op: "Split",
      attributes: { axis: 1 },
      inputs: [x, vector([1, 3, 2])],
      constant: [1],
      outputs: 3,
    });
    await agrees({ op: "Split", attributes: { axis: -1 }, inputs: [x], outputs: 2 });
    await agrees({ op: "Split", opset: 11, attributes: { axis: 1, split: [2, 4] }, inputs: [x], outputs: 2 });
    await agrees({ op: "Split", inputs: [i64([3], [1, 2, 3]), vector([0, 3])], constant: [1], outputs: 2 });
  });
  test("Slice: starts, ends, axes and steps of any sign, beyond the ends", () =>
    property(
      shapeOf(1, 5).chain((shape) =>
        fc
          .tuple(
            fc.boolean(),
            fc.subarray([...shape.keys()], { minLength: 1 }),
            fc.array(
              fc.tuple(
                fc.integer({ min: -6, max: 6 }),
                fc.integer({ min: -6, max: 6 }),
                fc.constantFrom(1, 1, 2, -1, -2),
              ),
              { minLength: 5, maxLength: 5 },
            ),
          )
          .map(([isFloat, axes, cuts]) => {
            const used = cuts.slice(0, axes.length);
            const x = count(shape);
            const bounds = [
              used.map(([start]) => start),
              used.map(([, end]) => end),
              axes,
              used.map(([, , step]) => step),
            ];
            return {
              op: "Slice",
              inputs: [isFloat ? x : i64(shape, Array.from(x.data as Float32Array)), ...bounds.map(vector)],
              constant: [1, 2, 3, 4],
            };
          }),
      ),
      { runs: 30 },
    ));
  test("Slice: INT64_MAX as an end, attributes before operator set 10", async () => {
    const huge: Tensor = { dtype: "int64", shape: [1], data: BigInt64Array.of(2n ** 63n - 1n) };
    await agrees({ op: "Slice", inputs: [count([5]), vector([2]), huge], constant: [1, 2] });
    await agrees({
      op: "Slice",
      opset: 9,
      attributes: { starts: [1], ends: [-1], axes: [1] },
      inputs: [count([2, 4])],
    });
  });
  test("Expand: every broadcast, every type", () =>
    property(
      shapeOf(0, 6).chain((shape) =>
        broadcastable(shape).chain((from) =>
          typed(from).map((x) => ({ op: "Expand", inputs: [x, vector(shape)], constant: [1] })),
        ),
      ),
      { runs: 25 },
    ));
  test("Expand of NaN and infinity, and beyond the rank wasm adds", async () => {
    await agrees({
      op: "Expand",
      inputs: [f32([3, 1], [Number.NaN, -Infinity, 1]), vector([3, 2])],
      constant: [1],
    });
    const shape = [2, 1, 2, 1, 2, 1, 2, 1];
    await agrees({ op: "Expand", inputs: [count(shape), vector(shape.map(() => 2))], constant: [1] });
  });
  test("Tile", () =>
    property(
      shapeOf(1, 4).chain((shape) =>
        fc
          .tuple(typed(shape), fc.array(fc.nat(3), { minLength: shape.length, maxLength: shape.length }))
          .map(([x, reps]) => ({ op: "Tile", inputs: [x, vector(reps)], constant: [1] })),
      ),
    ));
  test("Pad: constants, and negative pads that cut", () =>
    property(
      shapeOf(1, 4).chain((shape) => {
        const pads = fc.array(fc.integer({ min: 0, max: 2 }), {
          minLength: 2 * shape.length,
          maxLength: 2 * shape.length,
        });
        const cut = fc
          .tuple(pads, fc.boolean())
          .map(([list, negative]) => list.map((pad, i) => (negative && i === 0 && shape[0]! > 1 ? -1 : pad)));
        return fc
          .tuple(floats(shape), cut, fc.option(fc.constantFrom(-1, Infinity), { nil: undefined }))
          .map(([x, list, value]) => ({
            op: "Pad",
            inputs: [x, vector(list), ...(value === undefined ? [] : [f32([], [value])])],
            constant: [1, 2],
          }));
      }),
      { runs: 20 },
    ));
  test("Pad: reflect, edge and wrap, some axes, old attributes, bools", async () => {
    for (const mode of ["reflect", "edge", "wrap"])
      await agrees({
        op: "Pad",
        opset: 19,
        attributes: { mode },
        inputs: [count([3, 4]), vector([1, 2, 2, 3])],
        constant: [1],
      });
    await agrees({
      op: "Pad",
      opset: 18,
      inputs: [count([3, 4]), vector([1, 2]), f32([], [9]), vector([-1])],
      constant: [1, 2, 3],
    });
    await agrees({
      op: "Pad",
      opset: 10,
      attributes: { pads: [1, 0], value: { float: 3 } },
      inputs: [count([2])],
    });
    await agrees({ op: "Pad", inputs: [i64([2], [4, 5]), vector([1, 1])], constant: [1] });
    await agrees({ op: "Pad", inputs: [bool([2], [1, 0]), vector([1, 1])], constant: [1] });
  });
  test("Pad with a value that is fed, cells cut off too", async () => {
    const pads = vector([1, -1, 0, 2]);
    for (const [x, value] of [
      [count([3, 4]), f32([], [Number.NaN])],
      [f32([2, 2], [Infinity, 1, Number.NaN, 2]), f32([1], [-7])],
      [i64([2, 2], [4, 5, 6, 7]), i64([], [9])],
      [bool([2, 2], [1, 0, 0, 1]), bool([], [1])],
    ] as const)
      await agrees({ op: "Pad", opset: 18, inputs: [x, pads, value], constant: [1] });
  });
  test("a Range longer than an engine should hold is refused when loaded", async () => {
    const b = builderOn();
    const bound = (value: number) => b.constant(tensorOf("float32", [], [value]));
    b.output(b.emit("Range", [bound(0), bound(1e8), bound(1)]), "y");
    await expect(tfjsEngine(tf, "cpu").load(b.finish())).rejects.toThrow(/Range .*length: expected at most/);
  });
  test("and so is an EyeLike of more elements", async () => {
    const b = builderOn();
    const x = b.input({ name: "x", dtype: "float32", shape: [30_000, 30_000] });
    b.output(b.emit("EyeLike", [x]), "y");
    await expect(tfjsEngine(tf, "cpu").load(b.finish())).rejects.toThrow(
      /EyeLike .*elements: expected at most/,
    );
  });
  test("EyeLike: any diagonal, any type", async () => {
    for (const k of [-2, 0, 1])
      for (const dtype of [1, 6, 7])
        await agrees({ op: "EyeLike", opset: 9, attributes: { k, dtype }, inputs: [count([3, 4])] });
    await agrees({ op: "EyeLike", opset: 9, inputs: [i32([2, 2], [3, 4, 5, 6])] });
  });
  test("Trilu", () =>
    property(
      fc
        .tuple(
          shapeOf(2, 4).chain((s) => floats(s)),
          flag,
          fc.option(fc.integer({ min: -3, max: 3 }), { nil: undefined }),
          fc.subarray([1]),
        )
        .map(([x, upper, k, constant]) => ({
          op: "Trilu",
          attributes: { upper },
          inputs: k === undefined ? [x] : [x, i64([], [k])],
          constant: k === undefined ? [] : constant,
        })),
    ));
  test("Trilu drops what is infinite or NaN outside", () =>
    agrees({ op: "Trilu", inputs: [f32([2, 2], [1, -Infinity, Number.NaN, 2])] }));
  test("CumSum: any axis, exclusive, reversed", () =>
    property(
      shapeOf(1, 4).chain((shape) =>
        fc
          .record({
            x: fc.oneof(floats(shape), longs(shape)) as fc.Arbitrary<Tensor>,
            axis: fc.integer({ min: -shape.length, max: shape.length - 1 }),
            exclusive: flag,
            reverse: flag,
          })
          .map(({ x, axis, ...attributes }) => ({
            op: "CumSum",
            attributes,
            inputs: [x, i64([], [axis])],
            constant: [1],
          })),
      ),
    ));
  test("DepthToSpace", () =>
    property(
      fc.tuple(dim, dim, dim, dim, fc.constantFrom("DCR", "CRD")).map(([n, c, h, w, mode]) => ({
        op: "DepthToSpace",
        attributes: { blocksize: 2, mode },
        inputs: [count([n, 4 * c, h, w])],
      })),
    ));
});
