import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { runs } from "../runs.ts";
import { checkGradient, gradientOf } from "./check.ts";

const NAMES = [
  "ReduceSum",
  "ReduceMean",
  "ReduceMax",
  "ReduceMin",
  "ReduceL1",
  "ReduceL2",
  "ReduceSumSquare",
  "ReduceLogSumExp",
  "ReduceLogSum",
  "ReduceProd",
];

describe("reductions over any axes, kept or dropped, in both operator sets' forms", () => {
  for (const op of NAMES) {
    test(op, () =>
      fc.assert(
        fc.asyncProperty(
          fc.array(fc.integer({ min: 1, max: 3 }), { minLength: 1, maxLength: 3 }),
          fc.infiniteStream(fc.boolean()),
          fc.record({
            keepdims: fc.nat(1),
            opset: fc.constantFrom(13, 18),
            all: fc.boolean(),
            negative: fc.boolean(),
          }),
          (shape, picks, { keepdims, opset, all, negative }) => {
            const some = shape.flatMap((_, axis) =>
              picks.next().value ? [negative ? axis - shape.length : axis] : [],
            );
            const axes = some.length === 0 ? [0] : some;
            return checkGradient({
              op,
              inputs: [{ shape }],
              attributes: all ? { keepdims } : { axes, keepdims },
              opset,
              range: op === "ReduceLogSum" ? [0.5, 2] : [-2, 2],
            });
          },
        ),
        { numRuns: runs(10) },
      ),
    );
  }

  test("no axes and noop: the identity", () =>
    checkGradient({ op: "ReduceSum", inputs: [{ shape: [2, 3] }], attributes: { noop_with_empty_axes: 1 } }));
});

test("ReduceProd: a zero among the factors, and several", async () => {
  for (const values of [
    [1, 0, 3, 2],
    [0, 0, 3, 2],
    [0, 2, 0, 3],
  ])
    await checkGradient({ op: "ReduceProd", inputs: [{ shape: [2, 2], values }], attributes: { axes: [1] } });
});

test("ReduceLogSumExp: of −inf alone the slope is 0 and not NaN (torch.logsumexp)", () => {
  const low = Number.NEGATIVE_INFINITY;
  const over = { attributes: { axes: [1], keepdims: 0 } };
  const x = { shape: [2, 2], values: [low, low, low, 3] };
  expect(gradientOf({ op: "ReduceLogSumExp", inputs: [x], ...over })).toEqual([0, 0, 0, 1]);
});

describe("where a reduction has no slope", () => {
  test("ReduceMax shares evenly among ties; ReduceL2 is flat at the origin", () => {
    const over = { attributes: { keepdims: 0 } };
    expect(gradientOf({ op: "ReduceMax", inputs: [{ shape: [3], values: [2, 1, 2] }], ...over })).toEqual([
      0.5, 0, 0.5,
    ]);
    expect(gradientOf({ op: "ReduceL2", inputs: [{ shape: [2], values: [0, 0] }], ...over })).toEqual([0, 0]);
  });
});

describe("softmax", () => {
  const shapes: readonly (readonly number[])[] = [[4], [2, 3], [2, 3, 2]];
  for (const op of ["Softmax", "LogSoftmax"]) {
    for (const opset of [11, 13]) {
      test(`${op}-${opset} along every axis`, async () => {
        for (const shape of shapes)
          for (const axis of shape.keys())
            await checkGradient({ op, opset, inputs: [{ shape }], attributes: { axis } });
      });
    }
  }
});
