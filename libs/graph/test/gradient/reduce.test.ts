import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { runs } from "../runs.ts";
import { type Case, checkGradient, gradientOf } from "./check.ts";

const NAMES = [
  "ReduceSum",
  "ReduceMean",
  "ReduceMax",
  "ReduceMin",
  "ReduceL1",
  "ReduceL2",
  "ReduceSumSquare",
  "ReduceLogSumExp",
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
  const cases: Case[] = ["Softmax", "LogSoftmax"].flatMap((op) =>
    shapes.flatMap((shape) =>
      shape.flatMap((_, axis) =>
        [11, 13].map((opset) => ({ op, opset, inputs: [{ shape }], attributes: { axis } })),
      ),
    ),
  );
  for (const it of cases) {
    test(`${it.op}-${it.opset} axis ${it.attributes!.axis} of ${JSON.stringify(it.inputs[0])}`, () =>
      checkGradient(it));
  }
});
