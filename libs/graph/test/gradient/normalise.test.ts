import { describe, test } from "vitest";
import { checkGradient } from "./check.ts";

describe("LayerNormalization", () => {
  for (const [shape, axis] of [
    [[2, 3, 4], -1],
    [[2, 3, 4], 1],
    [[3, 5], 1],
  ] as const) {
    const own = shape.slice(axis);
    test(`[${shape}] from axis ${axis}`, async () => {
      await checkGradient({
        op: "LayerNormalization",
        inputs: [{ shape }, { shape: own }, { shape: own }],
        attributes: { axis },
      });
      await checkGradient({
        op: "LayerNormalization",
        inputs: [{ shape }, { shape: own, frozen: true }],
        attributes: { axis, epsilon: { float: 0.1 } },
      });
    });
  }
});

test("BatchNormalization, its statistics frozen", async () => {
  const stat = [0.5, 1.5, 0.8];
  const frozen = { shape: [3], values: stat, frozen: true };
  for (const shape of [
    [2, 3],
    [2, 3, 2, 2],
  ]) {
    await checkGradient({
      op: "BatchNormalization",
      inputs: [{ shape }, { shape: [3] }, { shape: [3] }, frozen, frozen],
    });
    await checkGradient({ op: "BatchNormalization", inputs: [{ shape }, frozen, frozen, frozen, frozen] });
    const open = { shape: [3], range: [0.5, 1.5] } as const;
    await checkGradient({ op: "BatchNormalization", inputs: [{ shape }, frozen, frozen, open, open] });
  }
});

test("InstanceNormalization", () =>
  checkGradient({
    op: "InstanceNormalization",
    inputs: [{ shape: [2, 3, 2, 2] }, { shape: [3] }, { shape: [3] }],
  }));
