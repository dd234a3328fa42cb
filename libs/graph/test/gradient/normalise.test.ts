import { describe, expect, test } from "vitest";
import { builderOn } from "../../src/builder.ts";
import { differentiate } from "../../src/differentiate.ts";
import { float32, type TracedGraph } from "../../src/ir.ts";
import { checkGradient } from "./check.ts";
import { run64 } from "./twin.ts";

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

describe("masked softmax", () => {
  const mask = float32([2, 3], Float32Array.of(0, -Infinity, 0, -Infinity, -Infinity, -Infinity));

  /** As torch exports attention: add the mask, softmax, and where a whole row was masked, zeros for NaN. */
  function attention(hide: (b: ReturnType<typeof builderOn>, p: string) => string): TracedGraph {
    const b = builderOn();
    const x = b.input({ name: "x", dtype: "float32", shape: [2, 3] });
    const p = b.emit("Softmax", [b.emit("Add", [x, b.constant(mask)])], { axis: -1 });
    const weighted = b.emit("Mul", [hide(b, p), b.constant(float32([3], Float32Array.of(1, 2, 3)))]);
    b.output(b.emit("ReduceSum", [weighted], { axes: [0, 1], keepdims: 0 }), "loss");
    return differentiate(b.finish(), { loss: "loss", wrt: ["x"] });
  }

  const feeds = new Map([["x", float32([2, 3], Float32Array.of(0, 5, 0, 1, 2, 3))]]);
  const hidings: Record<string, Parameters<typeof attention>[0]> = {
    "IsNaN and Where": (b, p) => b.emit("Where", [b.emit("IsNaN", [p]), b.scalar(0), p]),
    "Where on the mask itself": (b, p) =>
      b.emit("Where", [b.emit("Equal", [b.constant(mask), b.scalar(-Infinity)]), b.scalar(0), p]),
  };
  for (const [how, hide] of Object.entries(hidings)) {
    test(`a row masked throughout, hidden by ${how}, has gradient 0 and never NaN`, () => {
      const got = run64(attention(hide), feeds).get("grad.x")!.data as Float32Array;
      // Row 0 is a softmax over two: p = ½ each, weights 1 and 3, so dp = (−½, ½).
      expect(Array.from(got, (v) => v + 0)).toEqual([-0.5, 0, 0.5, 0, 0, 0]);
    });
  }
});
