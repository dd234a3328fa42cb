import { test } from "vitest";
import { checkGradient, int64 } from "../gradient/check.ts";
import { agrees, f32, i64 } from "../tfjs/harness.ts";
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

test.each([
  { image: [5], block: [3], attributes: {} },
  { image: [5, 6], block: [2, 3], attributes: {} },
  { image: [5, 6], block: [2, 3], attributes: { strides: [2, 1], pads: [1, 0, 0, 2] } },
  { image: [6, 7], block: [2, 2], attributes: { strides: [3, 2], dilations: [2, 3] } },
  { image: [3, 4, 3], block: [2, 2, 1], attributes: { strides: [1, 2, 1] } },
])("Col2Im %o", async ({ image, block, attributes }) => {
  const { strides, dilations, pads } = attributes as Record<string, number[] | undefined>;
  const windows = image.map((size, i) => {
    const padded = size + (pads?.[i] ?? 0) + (pads?.[i + image.length] ?? 0);
    return Math.floor((padded - (dilations?.[i] ?? 1) * (block[i]! - 1) - 1) / (strides?.[i] ?? 1)) + 1;
  });
  const product = (sizes: readonly number[]) => sizes.reduce((total, size) => total * size, 1);
  const shape = [2, 2 * product(block), product(windows)];
  const sizes = [i64([image.length], image), i64([image.length], block)];
  const all = { op: "Col2Im", opset: 18, attributes };
  await agrees({ ...all, inputs: [drawn(shape), ...sizes], constant: [1, 2] });
  await checkGradient({ ...all, inputs: [{ shape }, ...sizes.map((tensor) => ({ tensor }))] });
});

test("MaxUnpool", async () => {
  const places = [5, 7, 13, 15, 16, 19, 24, 31];
  const attributes = { kernel_shape: [2, 2], strides: [2, 2] };
  const all = { op: "MaxUnpool", attributes };
  const [shape, to] = [[1, 2, 2, 2], i64([4], [1, 2, 5, 5])];
  await agrees({ ...all, inputs: [drawn(shape), i64(shape, places)] });
  await agrees({ ...all, inputs: [drawn(shape), i64(shape, places), to], constant: [2] });
  await checkGradient({ ...all, inputs: [{ shape }, { tensor: int64(shape, places) }] });
});
