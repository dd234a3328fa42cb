import fc from "fast-check";
import { describe, test } from "vitest";
import { runs } from "../runs.ts";
import { checkGradient, int64 } from "./check.ts";

describe("Gather", () => {
  const picks = (size: number) =>
    fc.array(fc.integer({ min: -size, max: size - 1 }), { minLength: 1, maxLength: 5 });

  // Constant indices, indices that are fed, and the operator set whose ScatterND cannot add.
  for (const [how, fed, opset] of [
    ["constant", false, 17],
    ["fed", true, 17],
    ["fed, one-hot", true, 13],
  ] as const) {
    test(`any axis, repeats and negative indices, ${how}`, () =>
      fc.assert(
        fc.asyncProperty(fc.nat(2), picks(3), (axis, indices) => {
          const tensor = int64([indices.length], indices);
          return checkGradient({
            op: "Gather",
            inputs: [{ shape: [3, 3, 3] }, { tensor, fed }],
            attributes: { axis },
            opset,
          });
        }),
        { numRuns: runs(8) },
      ));
  }

  test("a scalar index takes a slice and drops the axis", async () => {
    for (const fed of [false, true]) {
      for (const index of [0, 2, -1]) {
        const tensor = int64([], [index]);
        await checkGradient({
          op: "Gather",
          inputs: [{ shape: [2, 3, 2] }, { tensor, fed }],
          attributes: { axis: 1 },
        });
      }
    }
  });

  test("a matrix of indices, as for embeddings", () =>
    checkGradient({
      op: "Gather",
      inputs: [{ shape: [5, 2] }, { tensor: int64([2, 3], [0, 4, 4, 1, 0, 4]), fed: true }],
    }));
});

describe("GatherND", () => {
  test("rows and single elements, with repeats", async () => {
    const rows = int64([3, 1], [1, 0, 1]);
    const cells = int64([2, 2], [1, 2, 0, 1]);
    for (const tensor of [rows, cells]) {
      for (const fed of [false, true])
        await checkGradient({ op: "GatherND", inputs: [{ shape: [2, 3] }, { tensor, fed }] });
    }
  });

  test("batch_dims", () =>
    checkGradient({
      op: "GatherND",
      inputs: [{ shape: [2, 3, 2] }, { tensor: int64([2, 1], [2, 0]), fed: true }],
      attributes: { batch_dims: 1 },
    }));
});

test("GatherElements along each axis, with repeats and negative indices", async () => {
  for (const axis of [0, 1, -1]) {
    for (const fed of [false, true]) {
      const tensor = int64([2, 2], [1, -1, 0, 1]);
      await checkGradient({
        op: "GatherElements",
        inputs: [{ shape: [2, 3] }, { tensor, fed }],
        attributes: { axis },
      });
    }
  }
});
