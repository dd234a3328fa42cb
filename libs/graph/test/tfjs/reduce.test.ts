import fc from "fast-check";
import { describe, test } from "vitest";
import { flag, floats, longs, property, shapeOf } from "./arbitrary.ts";
import { agrees, BACKENDS, type Case, expectClose, f32, i64, onTfjs, reference } from "./harness.ts";

const REDUCTIONS = [
  "ReduceSum",
  "ReduceMean",
  "ReduceMax",
  "ReduceMin",
  "ReduceProd",
  "ReduceL1",
  "ReduceL2",
];
const MORE = ["ReduceSumSquare", "ReduceLogSumExp"];

/** A reduction over drawn axes, written as the operator set has it. */
function reductions(op: string): fc.Arbitrary<Case> {
  return shapeOf(0, 4).chain((shape) => {
    const axes = fc
      .subarray(shape.map((_, axis) => axis))
      .chain((list) =>
        fc
          .array(fc.boolean(), { minLength: 4, maxLength: 4 })
          .map((back) => list.map((axis, i) => (back[i] ? axis - shape.length : axis))),
      );
    return fc
      .record({ x: floats(shape), axes, keepdims: flag, noop: flag, newer: fc.boolean(), none: fc.boolean() })
      .map(({ x, axes, keepdims, noop, newer, none }) => {
        const asInput = newer || op === "ReduceSum";
        const opset = op === "ReduceSum" ? 13 : newer ? 18 : 13;
        if (!asInput)
          return {
            op,
            opset,
            attributes: none || axes.length === 0 ? { keepdims } : { keepdims, axes },
            inputs: [x],
          };
        const attributes = { keepdims, noop_with_empty_axes: noop };
        return { op, opset, attributes, inputs: none ? [x] : [x, i64([axes.length], axes)], constant: [1] };
      });
  });
}

describe("reductions", () => {
  test.each([...REDUCTIONS, ...MORE])("%s: axes as attribute or input, or all, or none", (op) =>
    property(reductions(op), { runs: 16 }),
  );
  test.each(["ReduceSum", "ReduceMax", "ReduceMin", "ReduceProd"])("%s of int64", (op) =>
    property(
      longs([2, 3]).map((x) => ({ op, opset: 18, inputs: [x, i64([1], [1])], constant: [1] })),
      { runs: 8 },
    ),
  );
  test("of nothing", async () => {
    for (const op of ["ReduceSum", "ReduceProd"])
      await agrees({ op, opset: 18, inputs: [f32([2, 0], []), i64([1], [1])], constant: [1] });
    await agrees({ op: "ReduceSum", opset: 18, inputs: [f32([0, 2], []), i64([1], [0])], constant: [1] });
  });
  // onnxruntime 1.30 finds no axis that is counted from the end of a tensor without elements.
  test("of nothing, along an axis counted from the end", async () => {
    const along = (axis: number): Case => ({
      ...{ op: "ReduceMin", opset: 18, attributes: { keepdims: 0 }, constant: [1] },
      inputs: [f32([2, 3, 0], []), i64([1], [axis])],
    });
    const wanted = await reference(along(2));
    for (const backend of BACKENDS) {
      const got = await onTfjs(backend, along(-1), wanted);
      expectClose(got.get("y0")!, wanted.get("y0")!, backend);
    }
  });
  test("of NaN and infinities", async () => {
    const x = f32([3, 3], [Number.NaN, 1, 2, Infinity, 1, 2, -Infinity, 1, 2]);
    for (const op of ["ReduceSum", "ReduceMean", "ReduceMax", "ReduceMin"])
      for (const axis of [0, 1])
        await agrees({ op, opset: 18, inputs: [x, i64([1], [axis])], constant: [1] });
  });
  test("ReduceSum over leading axes of a matrix long enough to be worth it", () =>
    agrees({
      op: "ReduceSum",
      inputs: [
        f32(
          [40, 5, 7],
          Array.from({ length: 1400 }, (_, i) => Math.sin(i)),
        ),
        i64([2], [0, 1]),
      ],
      constant: [1],
    }));
});

describe("ArgMax", () => {
  test.each(["ArgMax", "ArgMin"])("%s: any axis, first or last of equals", (op) =>
    property(
      shapeOf(1, 4).chain((shape) =>
        fc
          .record({
            x: longs(shape, -2, 2).map((it) => f32(shape, Array.from(it.data as BigInt64Array, Number))),
            axis: fc.integer({ min: -shape.length, max: shape.length - 1 }),
            keepdims: flag,
            select_last_index: flag,
          })
          .map(({ x, ...attributes }) => ({ op, attributes, inputs: [x] })),
      ),
      { runs: 16 },
    ),
  );
});
