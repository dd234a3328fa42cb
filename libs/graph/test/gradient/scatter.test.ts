import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { runs } from "../runs.ts";
import { checkGradient, gradientOf, int64 } from "./check.ts";

const OPSET = 18;
const REDUCTIONS = ["add", "mul", "max", "min"] as const;

describe("ScatterND", () => {
  test("overwrites rows and single cells", async () => {
    for (const fed of [false, true]) {
      const rows = { tensor: int64([2, 1], [2, -3]), fed };
      await checkGradient({ op: "ScatterND", inputs: [{ shape: [3, 2] }, rows, { shape: [2, 2] }] });
      const cells = { tensor: int64([2, 2], [0, 1, 2, 0]), fed };
      await checkGradient({ op: "ScatterND", inputs: [{ shape: [3, 2] }, cells, { shape: [2] }] });
    }
  });

  for (const reduction of REDUCTIONS) {
    test(`${reduction}, also where indices repeat`, async () => {
      const repeated = { tensor: int64([4, 1], [1, 0, 1, 1]), fed: true };
      await checkGradient({
        op: "ScatterND",
        inputs: [{ shape: [3, 2] }, repeated, { shape: [4, 2] }],
        attributes: { reduction },
        opset: OPSET,
      });
    });
  }

  test("mul: zeros among the factors of a position", async () => {
    for (const values of [
      [0, 2, 3],
      [0, 2, 0],
      [0, 0, 0],
      [1, 2, 0],
    ]) {
      await checkGradient({
        op: "ScatterND",
        inputs: [{ shape: [2] }, { tensor: int64([3, 1], [1, 1, 0]) }, { shape: [3], values }],
        attributes: { reduction: "mul" },
        opset: OPSET,
      });
    }
  });

  test("max: data and updates that tie share evenly (torch.scatter_reduce, amax)", () => {
    const inputs = [
      { shape: [2], values: [1, 5] },
      { tensor: int64([3, 1], [0, 0, 1]) },
      { shape: [3], values: [1, 0, 2], frozen: true },
    ];
    const max = { attributes: { reduction: "max" }, opset: OPSET };
    expect(gradientOf({ op: "ScatterND", inputs, ...max })).toEqual([0.5, 1]);
  });
});

test("ScatterElements along each axis in every reduction", () =>
  fc.assert(
    fc.asyncProperty(
      fc.constantFrom(0, 1, -1),
      fc.constantFrom("none", ...REDUCTIONS),
      fc.boolean(),
      (axis, reduction, fed) => {
        const repeats = reduction === "none" ? [0, -1, 1, 0] : [0, -1, 0, 0];
        return checkGradient({
          op: "ScatterElements",
          inputs: [
            { shape: [3, 3] },
            { tensor: int64([2, 2], reduction === "none" && axis === 0 ? [0, -1, 2, 0] : repeats), fed },
            { shape: [2, 2] },
          ],
          attributes: { axis, reduction },
          opset: OPSET,
        });
      },
    ),
    { numRuns: runs(15) },
  ));

test("TopK: values go back to where they were found", async () => {
  for (const [axis, largest] of [
    [-1, 1],
    [0, 0],
  ] as const) {
    const k = { tensor: int64([1], [2]) };
    await checkGradient({
      op: "TopK",
      inputs: [{ shape: [3, 4] }, k],
      attributes: { axis, largest },
      outputs: 2,
    });
  }
});

test("OneHot: the two values get what arrives where they stand", async () => {
  for (const axis of [-1, 0]) {
    await checkGradient({
      op: "OneHot",
      inputs: [
        { tensor: int64([2, 2], [0, 2, -1, 7]), fed: true },
        { tensor: int64([], [3]) },
        { shape: [2] },
      ],
      attributes: { axis },
    });
  }
});
