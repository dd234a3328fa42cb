import { describe, test } from "vitest";
import { checkGradient } from "../gradient/check.ts";
import { agrees, f32 } from "../tfjs/harness.ts";
import { drawn } from "./draw.ts";

const SHAPES = [
  [2, 4, 3],
  [1, 6, 2, 2],
  [2, 2, 2, 1, 3],
] as const;

describe("GroupNormalization", () => {
  for (const opset of [18, 21])
    test(`opset ${opset}`, async () => {
      for (const shape of SHAPES)
        for (const groups of [1, 2]) {
          const attributes = { num_groups: groups, epsilon: { float: 1e-3 } };
          const width = opset < 21 ? groups : shape[1];
          const all = { op: "GroupNormalization", opset, attributes };
          await agrees({ ...all, inputs: [drawn(shape), drawn([width], 2), drawn([width], 3)] });
          await checkGradient({ ...all, inputs: [{ shape }, { shape: [width] }, { shape: [width] }] });
        }
    });
});

test("LRN", async () => {
  for (const shape of SHAPES)
    for (const size of [1, 2, 3, 4, 5]) {
      const attributes = { size, alpha: { float: 0.3 }, beta: { float: 0.6 }, bias: { float: 1.5 } };
      // onnxruntime takes odd sizes alone; of the others evaluate/normalise.ts is the twin.
      if (size % 2 === 1 && shape.length === 4)
        await agrees({ op: "LRN", inputs: [drawn(shape)], attributes });
      if (shape.length === 3) await checkGradient({ op: "LRN", inputs: [{ shape }], attributes });
    }
});

test("MeanVarianceNormalization", async () => {
  for (const axes of [undefined, [1], [0, 2], [-1]]) {
    const attributes = axes ? { axes } : {};
    await agrees({ op: "MeanVarianceNormalization", inputs: [drawn([2, 3, 2, 2])], attributes });
    await checkGradient({
      op: "MeanVarianceNormalization",
      // Of two values both come to ±1, whatever they were: their gradient is rounding.
      inputs: [{ shape: [2, 3, 2, 3] }],
      attributes: axes ? { axes } : {},
    });
  }
});

test("LpNormalization", async () => {
  for (const p of [1, 2])
    for (const axis of [0, 1, -1]) {
      const attributes = { p, axis };
      await agrees({ op: "LpNormalization", inputs: [drawn([3, 2, 4])], attributes });
      await agrees({ op: "LpNormalization", inputs: [f32([2, 2], [0, 0, 3, 4])], attributes });
      await checkGradient({ op: "LpNormalization", inputs: [{ shape: [3, 2, 4] }], attributes });
    }
});

test("Hardmax takes the first of equals", async () => {
  const ties = f32([2, 2, 3], [1, 3, 3, 0, 0, 0, -1, -2, -1, 5, 4, 5]);
  for (const opset of [11, 13])
    for (const axis of [0, 1, 2, -1])
      await agrees({ op: "Hardmax", opset, inputs: [ties], attributes: { axis } });
});

describe("norms by the root mean square", () => {
  test("RMSNormalization", async () => {
    for (const axis of [-1, 1]) {
      const attributes = { axis, epsilon: { float: 1e-3 } };
      const scale = axis === 1 ? [3, 4] : [4];
      const all = { op: "RMSNormalization", opset: 23, attributes };
      await agrees({ ...all, inputs: [drawn([2, 3, 4]), drawn(scale, 2)] });
      await checkGradient({ ...all, inputs: [{ shape: [2, 3, 4] }, { shape: scale }] });
    }
  });

  test("SimplifiedLayerNormalization in the standard domain", async () => {
    const all = { op: "SimplifiedLayerNormalization", attributes: { epsilon: { float: 1e-4 } }, outputs: 2 };
    await agrees({ ...all, inputs: [drawn([2, 3, 4]), drawn([4], 2)] });
    await checkGradient({ ...all, inputs: [{ shape: [2, 3, 4] }, { shape: [4] }] });
  });
});
