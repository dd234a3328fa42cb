import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { runs } from "../runs.ts";
import { checkGradient, gradientOf } from "./check.ts";
import { planes, pooled, undilated, windowOf } from "./draw/window.ts";

test.each([
  ["MaxPool", [80, 80]],
  ["AveragePool", [80, 80]],
  ["LpPool", [6000, 1]],
])("a kernel of too many places is refused by name: %s", (op, kernel) => {
  const [rows, columns] = kernel as [number, number];
  const shape = [1, 1, rows, columns];
  const values = new Array(rows * columns).fill(1);
  const test = { op, inputs: [{ shape, values }], attributes: { kernel_shape: kernel } };
  expect(() => gradientOf(test)).toThrow(new RegExp(`${op} .*kernel.*expected at most 5000`));
});

describe("Conv", () => {
  test("strides, dilations, uneven padding and groups, one or two spatial axes", () =>
    fc.assert(
      fc.asyncProperty(
        planes,
        fc.record({
          group: fc.constantFrom(1, 2),
          inPer: fc.constantFrom(1, 2),
          outPer: fc.constantFrom(1, 2),
        }),
        fc.boolean(),
        (axes, { group, inPer, outPer }, frozen) =>
          checkGradient({
            op: "Conv",
            inputs: [
              { shape: [2, group * inPer, ...axes.map((a) => a.size)] },
              { shape: [group * outPer, inPer, ...axes.map((a) => a.kernel)], frozen },
              { shape: [group * outPer] },
            ],
            attributes: { ...windowOf(axes), group },
          }),
      ),
      { numRuns: runs(16) },
    ));

  test("a kernel of 36 places, whose weight gradient is a convolution itself", async () => {
    for (const [attributes, size] of [
      [{ strides: [6, 6] }, 12],
      [{ strides: [2, 3], pads: [1, 0, 2, 1] }, 8],
      [{ dilations: [1, 2] }, 11],
    ] as const) {
      const x = { shape: [2, 1, 7, size] };
      await checkGradient({ op: "Conv", inputs: [x, { shape: [2, 1, 6, 6] }], attributes });
    }
  });

  test("a large depthwise kernel (ConvNeXt)", () =>
    checkGradient({
      op: "Conv",
      inputs: [{ shape: [1, 2, 4, 4] }, { shape: [2, 1, 7, 7] }, { shape: [2] }],
      attributes: { group: 2, pads: [3, 3, 3, 3] },
    }));

  test("three spatial axes, in groups", () =>
    checkGradient({
      op: "Conv",
      inputs: [{ shape: [1, 2, 3, 2, 4] }, { shape: [2, 1, 2, 2, 2] }, { shape: [2] }],
      attributes: { group: 2, strides: [1, 1, 2], pads: [1, 0, 1, 0, 1, 0] },
    }));

  test("auto_pad", async () => {
    for (const auto_pad of ["SAME_UPPER", "SAME_LOWER", "VALID"]) {
      await checkGradient({
        op: "Conv",
        inputs: [{ shape: [1, 1, 5, 4] }, { shape: [1, 1, 3, 2] }],
        attributes: { auto_pad, strides: [2, 1] },
      });
    }
  });
});

describe("ConvTranspose", () => {
  test("strides, dilations, uneven padding, output padding and groups", () =>
    fc.assert(
      fc.asyncProperty(
        planes,
        fc.record({
          group: fc.constantFrom(1, 2),
          inPer: fc.constantFrom(1, 2),
          outPer: fc.constantFrom(1, 2),
        }),
        fc.nat(1),
        (axes, { group, inPer, outPer }, extra) => {
          const kernel = axes.map((a) => a.kernel);
          const grown = axes.map((a) => a.stride * (a.size - 1) + (a.kernel - 1) * a.dilation + 1);
          fc.pre(axes.every((a, i) => grown[i]! - a.before - a.after > 0));
          return checkGradient({
            op: "ConvTranspose",
            inputs: [
              { shape: [2, group * inPer, ...axes.map((a) => a.size)] },
              { shape: [group * inPer, outPer, ...kernel] },
              { shape: [group * outPer] },
            ],
            // onnxruntime wants output_padding below the stride.
            attributes: { ...windowOf(axes), group, output_padding: axes.map((a) => extra % a.stride) },
          });
        },
      ),
      { numRuns: runs(16) },
    ));

  test("a given output shape, auto_pad", async () => {
    const inputs = [{ shape: [1, 2, 3, 2] }, { shape: [2, 1, 3, 3] }];
    const strides = [2, 2];
    await checkGradient({ op: "ConvTranspose", inputs, attributes: { strides, output_shape: [6, 4] } });
    for (const auto_pad of ["SAME_UPPER", "SAME_LOWER", "VALID"])
      await checkGradient({ op: "ConvTranspose", inputs, attributes: { strides, auto_pad } });
  });
});

const pooling = fc.record({ ceil_mode: fc.nat(1), count_include_pad: fc.nat(1) });

describe("pools", () => {
  test("MaxPool", () =>
    fc.assert(
      fc.asyncProperty(pooled, pooling, (axes, { ceil_mode }) =>
        checkGradient({
          op: "MaxPool",
          inputs: [{ shape: [2, 2, ...axes.map((a) => a.size)] }],
          attributes: { ...windowOf(axes), ceil_mode },
        }),
      ),
      { numRuns: runs(12) },
    ));

  test("AveragePool, padding counted or not", () =>
    fc.assert(
      fc.asyncProperty(undilated, pooling, (axes, options) => {
        const { dilations: _, ...window } = windowOf(axes);
        return checkGradient({
          op: "AveragePool",
          inputs: [{ shape: [2, 2, ...axes.map((a) => a.size)] }],
          attributes: { ...window, ...options },
        });
      }),
      { numRuns: runs(12) },
    ));

  test("GlobalAveragePool and GlobalMaxPool", async () => {
    for (const op of ["GlobalAveragePool", "GlobalMaxPool"])
      await checkGradient({ op, inputs: [{ shape: [2, 3, 2, 3] }] });
  });

  test("MaxPool: of equal values the first gets the gradient (torch)", () => {
    const x = { shape: [1, 1, 4], values: [1, 1, 0, 0] };
    expect(
      gradientOf({ op: "MaxPool", inputs: [x], attributes: { kernel_shape: [2], strides: [2] } }),
    ).toEqual([1, 0, 1, 0]);
    expect(gradientOf({ op: "MaxPool", inputs: [x], attributes: { kernel_shape: [3] } })).toEqual([
      1, 1, 0, 0,
    ]);
  });
});
