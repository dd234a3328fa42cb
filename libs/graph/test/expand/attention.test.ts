import { seededRandom } from "@tutti/foundation/random";
import { describe, expect, test } from "vitest";
import { builderOn } from "../../src/builder.ts";
import { differentiate } from "../../src/differentiate.ts";
import { expanded } from "../../src/expand/expand.ts";
import type { Tensor } from "../../src/ir.ts";
import { checkGradient, type Input } from "../gradient/check.ts";
import { run64 } from "../gradient/twin.ts";
import {
  type AttributeInit,
  agrees,
  bool,
  type Case,
  expectClose,
  f32,
  i64,
  onTfjs,
  reference,
} from "../tfjs/harness.ts";

const random = seededRandom(5);
const draw = (...shape: number[]): Tensor =>
  f32(
    shape,
    Array.from({ length: shape.reduce((a, b) => a * b, 1) }, () => random.uniform() * 2 - 1),
  );
const flags = (...shape: number[]): Tensor =>
  bool(
    shape,
    Array.from({ length: shape.reduce((a, b) => a * b, 1) }, (_, i) => (i % 3 === 1 ? 0 : 1)),
  );
const no = undefined;
const check = (inputs: Case["inputs"], rest: Partial<Case> = {}) =>
  agrees({ op: "Attention", opset: 23, inputs, ...rest }, 1e-5);

const [B, H, S, T, D] = [2, 2, 3, 4, 4];
const qkv = (keys = T) => [draw(B, H, S, D), draw(B, H, keys, D), draw(B, H, keys, D)];
const HIDDEN = -Infinity;

describe("as onnxruntime has it", () => {
  test("ranks 3 and 4, heads of values of another size", async () => {
    await check([draw(B, H, S, D), draw(B, H, T, D), draw(B, H, T, 6)]);
    const attributes = { q_num_heads: H, kv_num_heads: H };
    await check([draw(B, S, H * D), draw(B, T, H * D), draw(B, T, H * 6)], { attributes });
  });
  test("grouped queries", async () => {
    const attributes = { q_num_heads: 6, kv_num_heads: 2 };
    await check([draw(B, S, 24), draw(B, T, 8), draw(B, T, 8), draw(6, S, T)], { attributes });
    await check([draw(B, 6, S, D), draw(B, 2, T, D), draw(B, 2, T, D)], { attributes: { is_causal: 1 } });
  });
  test("scale and softcap", async () => {
    await check(qkv(), { attributes: { scale: { float: 0.7 }, softcap: { float: 0.4 } } });
  });
  for (const shape of [
    [S, T],
    [1, S, T],
    [H, S, T],
    [B, 1, S, T],
    [B, H, S, T],
  ]) {
    test(`mask [${shape}], bool and float, fed and held`, async () => {
      await check([...qkv(), flags(...shape)]);
      await check([...qkv(), draw(...shape)]);
      await check([...qkv(), flags(...shape)], { constant: [3] });
      await check([...qkv(), draw(...shape)], { constant: [3], attributes: { softcap: { float: 2 } } });
    });
  }
  test("a mask of one row for all queries, which onnxruntime wants written out", async () => {
    const inputs = qkv();
    const row = flags(B, 1, 1, T);
    const repeated = Array.from({ length: B * S * T }, (_, i) => {
      return row.data[Math.floor(i / S / T) * T + (i % T)] as number;
    });
    const node: Case = { op: "Attention", opset: 23, inputs: [...inputs, bool([B, 1, S, T], repeated)] };
    const wanted = await reference(node);
    const got = await onTfjs("wasm", { ...node, inputs: [...inputs, row] }, wanted);
    expectClose(got.get("y0")!, wanted.get("y0")!, "output", 1e-5);
  });
  test("causal, with a mask, with fewer and more keys", async () => {
    for (const keys of [2, 3, 5]) {
      await check(qkv(keys), { attributes: { is_causal: 1 } });
      await check([...qkv(keys), flags(B, 1, S, keys)], { attributes: { is_causal: 1 } });
    }
  });
  test("past and present", async () => {
    const past = [draw(B, H, 2, D), draw(B, H, 2, D)];
    await check([...qkv(), no, ...past], { outputs: 3 });
    await check([...qkv(), draw(S, T + 2), ...past], { outputs: 3 });
    await check([...qkv(), no, ...past], { outputs: 3, opset: 24, attributes: { is_causal: 1 } });
    const heads = { q_num_heads: H, kv_num_heads: H };
    const flat = [draw(B, S, H * D), draw(B, T, H * D), draw(B, T, H * D)];
    await check([...flat, no, ...past], { outputs: 3, attributes: heads });
  });
  test("a row of nothing to see gives 0, bool and −∞, fed and held", async () => {
    const rows = (hidden: number, seen: number) =>
      Array.from({ length: S * T }, (_, i) => (i < T ? hidden : i % 3 === 1 ? hidden : seen));
    for (const constant of [[], [3]]) {
      await check([...qkv(), bool([S, T], rows(0, 1))], { constant });
      await check([...qkv(), f32([S, T], rows(HIDDEN, 0.5))], { constant });
    }
  });
  test("lengths of padded keys (24), fed and held, alone, causal and with a mask", async () => {
    for (const constant of [[], [6]]) {
      const lengths = i64([B], [3, 4]);
      const rest = { opset: 24, constant };
      await check([...qkv(), no, no, no, lengths], rest);
      await check([...qkv(), no, no, no, lengths], { ...rest, attributes: { is_causal: 1 } });
      await check([...qkv(), flags(B, 1, S, T), no, no, lengths], rest);
    }
  });
});

describe("scores", () => {
  for (const mode of [0, 1, 2, 3]) {
    test(`mode ${mode}`, async () => {
      const attributes = { qk_matmul_output_mode: mode };
      await scores(attributes, draw(S, T));
      await scores({ ...attributes, softcap: { float: 0.5 } }, draw(S, T));
      // The standard hides a key by −∞, onnxruntime by the lowest number: seen in mode 2 alone.
      if (mode !== 2) await scores(attributes, flags(S, T));
    });
  }
  const scores = (attributes: Record<string, AttributeInit>, mask: Tensor) =>
    check([...qkv(), mask, no, no], { attributes, outputs: 4 });
});

describe("gradients", () => {
  const fed = (...shape: number[]): Input => ({ shape });
  const given = (tensor: Tensor): Input => ({ tensor, fed: true });
  const gradient = (inputs: readonly Input[], attributes: Record<string, AttributeInit> = {}) =>
    checkGradient({ op: "Attention", opset: 23, inputs, attributes } as Parameters<typeof checkGradient>[0]);
  test("of Q, K, V and a float mask", async () => {
    await gradient([fed(1, 2, 3, 2), fed(1, 2, 4, 2), fed(1, 2, 4, 2), fed(3, 4)]);
  });
  test("grouped queries, causal, softcap, rank 3", async () => {
    const attributes = { q_num_heads: 4, kv_num_heads: 2, is_causal: 1, softcap: { float: 1.5 } };
    await gradient([fed(2, 3, 8), fed(2, 3, 4), fed(2, 3, 4)], attributes);
  });
  test("past and a mask", async () => {
    const past = fed(1, 1, 2, 2);
    await gradient([fed(1, 1, 2, 2), fed(1, 1, 2, 2), fed(1, 1, 2, 2), given(flags(2, 4)), past, past]);
  });
  test("a row of nothing to see is 0, not NaN", async () => {
    const mask = bool([2, 3], [0, 0, 0, 1, 0, 1]);
    await gradient([fed(1, 1, 2, 2), fed(1, 1, 3, 2), fed(1, 1, 3, 2), given(mask)]);
    const inf = f32([2, 3], [HIDDEN, HIDDEN, HIDDEN, 0.5, HIDDEN, 1]);
    for (const fedMask of [true, false]) {
      const got = queryGradient(inf, fedMask);
      expect(got.slice(0, 2)).toEqual([0, 0]);
      expect(got.slice(2).every((value) => Number.isFinite(value) && value !== 0)).toBe(true);
    }
  });
});

/** d Σ w·Y / dQ of one head with a mask, by the twin. */
function queryGradient(mask: Tensor, fedMask: boolean): number[] {
  const b = builderOn(undefined, 23);
  const shapes = [[1, 1, 2, 2], ...[1, 2].map(() => [1, 1, 3, 2])];
  const inputs = shapes.map((shape, i) => b.input({ name: `x${i}`, dtype: "float32", shape }));
  const held = fedMask ? b.input({ name: "mask", dtype: "float32", shape: mask.shape }) : b.constant(mask);
  const y = b.emit("Attention", [...inputs, held]);
  const weighed = b.emit("Mul", [y, b.constant(draw(1, 1, 2, 2))]);
  b.output(b.emit("ReduceSum", [weighed], { axes: [0, 1, 2, 3], keepdims: 0 }), "loss");
  const graph = differentiate(b.finish(), { loss: "loss", wrt: ["x0"] });
  const feeds = new Map(shapes.map((shape, i) => [`x${i}`, draw(...shape)]));
  if (fedMask) feeds.set("mask", mask);
  return Array.from(run64(graph, feeds).get("grad.x0")!.data as Float32Array);
}

test("causal self-attention without a fed mask is 9 nodes: nothing is left to compute of its mask", () => {
  const b = builderOn(undefined, 23);
  const inputs = [0, 1, 2].map((i) => b.input({ name: `x${i}`, dtype: "float32", shape: [B, S, H * D] }));
  b.output(b.emit("Attention", inputs, { q_num_heads: H, kv_num_heads: H, is_causal: 1 }));
  const { nodes } = expanded(b.finish(), { wanted: () => true });
  expect(nodes.map(({ op }) => op).filter((op) => op !== "Reshape" && op !== "Identity")).toEqual([
    ...["Transpose", "Transpose", "Transpose", "Mul", "MatMul", "Add", "Softmax", "MatMul", "Transpose"],
  ]);
});
