import { describe, expect, test } from "vitest";
import { builderOn } from "../../src/builder.ts";
import { checkGradient } from "../gradient/check.ts";
import { agrees, bool, f32 } from "../tfjs/harness.ts";

const x = f32([7], [-3, -0.6, -0.5, 0, 0.5, 0.7, 2]);

describe("Shrink", () => {
  for (const [lambd, bias] of [
    [0.5, 0],
    [0.6, 0.25],
  ] as const) {
    const attributes = { lambd: { float: lambd }, bias: { float: bias } };
    test(`λ ${lambd}, bias ${bias}`, async () => {
      await agrees({ op: "Shrink", inputs: [x], attributes });
      await checkGradient({ op: "Shrink", inputs: [{ shape: [4], values: [-3, -0.2, 0.3, 2] }], attributes });
    });
  }
});

// Away from the steps at 0 and at α, where there is no slope to compare.
const smooth = { shape: [6], values: [-3, -1.2, -0.3, 0.4, 1.3, 2] };

test.each([
  ["Celu", {}],
  ["Celu", { alpha: { float: 2.5 } }],
  ["Selu", {}],
  ["Selu", { alpha: { float: 1.2 }, gamma: { float: 0.7 } }],
  ["ThresholdedRelu", {}],
  ["ThresholdedRelu", { alpha: { float: 0.6 } }],
  ["Tan", {}],
] as const)("%s %o", async (op, attributes) => {
  await agrees({ op, inputs: [x], attributes });
  await checkGradient({
    op,
    inputs: [op === "Tan" ? { shape: [3], values: [-1, 0.2, 1] } : smooth],
    attributes,
  });
});

test("Swish", async () => {
  await agrees({ op: "Swish", opset: 24, inputs: [x], attributes: { alpha: { float: 1.3 } } });
  await checkGradient({ op: "Swish", opset: 24, inputs: [smooth], attributes: { alpha: { float: 1.3 } } });
});

test("Mean of inputs that broadcast", async () => {
  const inputs = [f32([2, 1], [1, 2]), f32([3], [3, 4, 5]), f32([2, 3], [6, 7, 8, 9, 10, 11])];
  await agrees({ op: "Mean", inputs });
  await checkGradient({ op: "Mean", inputs: inputs.map(({ shape }) => ({ shape })) });
});

test("com.microsoft QuickGelu", async () => {
  await agrees({
    op: "QuickGelu",
    domain: "com.microsoft",
    inputs: [x],
    attributes: { alpha: { float: 1.5 } },
  });
});

// Kernels and rules of their own, being primitives.
test.each([
  ...["Sinh", "Cosh", "Asinh", "Atan"].map((op) => [op, [-2, -0.3, 0, 0.4, 1.7]] as const),
  ...["Asin", "Acos", "Atanh"].map((op) => [op, [-0.9, -0.3, 0, 0.4, 0.8]] as const),
  ["Acosh", [1.1, 1.5, 3]] as const,
])("%s", async (op, values) => {
  await agrees({ op, inputs: [f32([values.length], values)] });
  await checkGradient({ op, inputs: [{ shape: [values.length], values }] });
});

describe("Dropout", () => {
  const scalar = (value: number) => f32([], [value]);
  const off = bool([], [0]);
  const on = bool([], [1]);

  test.each([
    ["out of training", [x, scalar(0.5), off]],
    ["of nothing", [x, scalar(0), on]],
    ["by default", [x]],
  ] as const)("%s is the identity", async (_, inputs) => {
    await agrees({ op: "Dropout", inputs, constant: [1, 2], outputs: 2 });
  });

  test.each([
    ["a ratio", [scalar(0.5), on]],
    ["the ratio it has unless told", [undefined, on]],
  ] as const)("in training with %s is refused by name", (_, [ratio, training]) => {
    const build = builderOn();
    const from = build.input({ name: "x", dtype: "float32", shape: [3] });
    const inputs = [from, ratio ? build.constant(ratio) : "", build.constant(training)];
    expect(() => build.emit("Dropout", inputs)).toThrow(/Dropout .*training mode/);
  });
});
