import { seededRandom } from "@tutti/foundation/random";
import { describe, test } from "vitest";
import type { Tensor } from "../../src/ir.ts";
import { checkGradient } from "../gradient/check.ts";
import { agrees, type Case, f32, i64 } from "../tfjs/harness.ts";

const random = seededRandom(3);
const draw = (...shape: number[]): Tensor =>
  f32(
    shape,
    Array.from({ length: shape.reduce((a, b) => a * b, 1) }, () => random.uniform() * 2 - 1),
  );
const [B, H, S, D] = [2, 3, 4, 8];
const ids = i64([B, S], [0, 1, 2, 3, 5, 5, 8, 0]);

const check = async (inputs: Case["inputs"], attributes: Record<string, number>) => {
  const node = { op: "RotaryEmbedding", opset: 23, inputs, attributes };
  await agrees(node, 1e-5);
  await agrees({ ...node, constant: [1, 2] }, 1e-5);
};

for (const interleaved of [0, 1]) {
  describe(`RotaryEmbedding, interleaved ${interleaved}`, () => {
    const rank3 = { interleaved, num_heads: H };
    test("rank 4, rows by position", () =>
      check([draw(B, H, S, D), draw(9, D / 2), draw(9, D / 2), ids], { interleaved }));
    test("rank 3, rows by position", () =>
      check([draw(B, S, H * D), draw(9, D / 2), draw(9, D / 2), ids], rank3));
    test("rank 4, a row per place", () =>
      check([draw(B, H, S, D), draw(B, S, D / 2), draw(B, S, D / 2)], { interleaved }));
    test("rank 3, a row per place", () =>
      check([draw(B, S, H * D), draw(B, S, D / 2), draw(B, S, D / 2)], rank3));
    test("part of a head", () =>
      check([draw(B, S, H * D), draw(9, 2), draw(9, 2), ids], { ...rank3, rotary_embedding_dim: 4 }));
    test("gradient", async () => {
      await checkGradient({
        op: "RotaryEmbedding",
        opset: 23,
        attributes: { ...rank3, rotary_embedding_dim: 4 },
        inputs: [{ shape: [B, S, H * 6] }, { shape: [9, 2] }, { shape: [9, 2] }, { tensor: ids, fed: true }],
      });
    });
  });
}
