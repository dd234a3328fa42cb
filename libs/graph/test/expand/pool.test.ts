import { test } from "vitest";
import { checkGradient } from "../gradient/check.ts";
import { agrees, f32 } from "../tfjs/harness.ts";
import { drawn } from "./draw.ts";

const CASES = [
  { shape: [2, 2, 7], attributes: { kernel_shape: [3] } },
  { shape: [1, 2, 7], attributes: { kernel_shape: [3], strides: [2], pads: [1, 1] } },
  { shape: [1, 2, 5, 6], attributes: { kernel_shape: [2, 3] } },
  { shape: [1, 2, 5, 6], attributes: { kernel_shape: [2, 3], strides: [2, 2], pads: [1, 0, 0, 1] } },
  { shape: [1, 1, 5, 6], attributes: { kernel_shape: [3, 2], strides: [2, 2], auto_pad: "SAME_LOWER" } },
  { shape: [1, 1, 5, 6], attributes: { kernel_shape: [3, 2], auto_pad: "SAME_UPPER" } },
  { shape: [1, 1, 5, 6], attributes: { kernel_shape: [2, 2], dilations: [2, 3] } },
  { shape: [1, 1, 5, 6], attributes: { kernel_shape: [2, 2], strides: [2, 4], ceil_mode: 1 } },
  { shape: [1, 2, 3, 4, 3], attributes: { kernel_shape: [2, 2, 2], strides: [1, 2, 1] } },
] as const;

for (const { shape, attributes } of CASES)
  test(`LpPool of [${shape}] ${JSON.stringify(attributes)}`, async () => {
    for (const p of [1, 2, 3]) {
      const all = { op: "LpPool", opset: 22, attributes: { ...attributes, p } };
      await agrees({ ...all, inputs: [drawn(shape)] });
      await checkGradient({ ...all, inputs: [{ shape }] });
    }
  });

test("windows of zeros alone have no slope rather than an infinite one", async () => {
  await agrees({ op: "LpPool", inputs: [f32([1, 1, 3], [0, 0, 2])], attributes: { kernel_shape: [2] } });
});

test("GlobalLpPool", async () => {
  for (const p of [1, 2, 3])
    for (const shape of [
      [2, 3, 4],
      [1, 2, 3, 2],
    ]) {
      await agrees({ op: "GlobalLpPool", inputs: [drawn(shape)], attributes: { p } });
      await checkGradient({ op: "GlobalLpPool", inputs: [{ shape }], attributes: { p } });
    }
});
