import fc from "fast-check";
import { describe, test } from "vitest";
import { dim, floats, property, shapeOf } from "./arbitrary.ts";
import { agrees, f32 } from "./harness.ts";

const anyAxis = shapeOf(1, 4).chain((shape) =>
  fc.tuple(floats(shape), fc.integer({ min: -shape.length, max: shape.length - 1 })),
);

describe.each(["Softmax", "LogSoftmax"])("%s", (op) => {
  test("over one axis from operator set 13", () =>
    property(anyAxis.map(([x, axis]) => ({ op, opset: 13, attributes: { axis }, inputs: [x] }))));
  test("over a flattened rest before", () =>
    property(anyAxis.map(([x, axis]) => ({ op, opset: 11, attributes: { axis }, inputs: [x] }))));
  test("the default axes", async () => {
    const x = f32([2, 2, 3], [1, 2, 3, 4, 5, 6, 6, 5, 4, 3, 2, 1]);
    await agrees({ op, opset: 13, inputs: [x] });
    await agrees({ op, opset: 11, inputs: [x] });
  });
  test("masked by -inf in part, and large logits", () =>
    agrees({ op, inputs: [f32([2, 3], [-Infinity, 0, 1, 1e4, -1e4, 1e4])] }));
  test("of no rows", () => agrees({ op, inputs: [f32([0, 3], [])] }));
});

describe("LayerNormalization", () => {
  test("from any axis on, with and without bias, with its statistics", () =>
    property(
      shapeOf(1, 4).chain((shape) =>
        fc.integer({ min: -shape.length, max: shape.length - 1 }).chain((axis) => {
          const inner = shape.slice(axis);
          return fc
            .tuple(
              floats(shape),
              floats(inner),
              fc.option(floats(inner), { nil: undefined }),
              fc.constantFrom(1, 3),
            )
            .map(([x, scale, bias, outputs]) => ({
              op: "LayerNormalization",
              attributes: { axis, epsilon: { float: 1e-2 } },
              inputs: bias ? [x, scale, bias] : [x, scale],
              outputs,
            }));
        }),
      ),
      { runs: 16 },
    ));
});

describe("per channel", () => {
  test.each([
    ["BatchNormalization", 1],
    ["BatchNormalization", 3],
    ["BatchNormalization", 4],
    ["InstanceNormalization", 3],
    ["InstanceNormalization", 4],
  ] as const)("%s of rank %i", (op, rank) =>
    property(
      fc
        .tuple(shapeOf(Math.max(rank, 2), Math.max(rank, 2)), dim, fc.subarray([1, 2, 3, 4]))
        .chain(([shape, _, constant]) => {
          const c = [shape[1]!];
          const positive = floats(c, { min: 0.1, max: 2 });
          return fc.tuple(floats(shape), floats(c), floats(c), floats(c), positive).map((all) => ({
            op,
            attributes: { epsilon: { float: 0.01 } },
            inputs: op === "BatchNormalization" ? all : all.slice(0, 3),
            constant: constant.filter((index) => op === "BatchNormalization" || index < 3),
          }));
        }),
    ),
  );
});

describe("Dropout", () => {
  test("is the identity at inference, its mask all true", async () => {
    const x = f32([2, 3], [1, 2, 3, 4, 5, 6]);
    await agrees({ op: "Dropout", inputs: [x] });
    await agrees({ op: "Dropout", inputs: [x], outputs: 2 });
    await agrees({ op: "Dropout", inputs: [x, f32([], [0.5])], outputs: 2, constant: [1] });
  });
});
