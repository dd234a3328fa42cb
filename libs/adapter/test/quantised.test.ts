import { seededRandom } from "@tutti/foundation/random";
import { describe, expect, test } from "vitest";
import { type DType, float32, type Node, sizeOf, type Tensor, type Tensors } from "../../graph/src/ir.ts";
import { read } from "../../graph/src/read.ts";
import { tensorOf } from "../../graph/src/tensor.ts";
import { trace } from "../../graph/src/trace.ts";
import { attach, attachedFeeds, detach, emptyFeeds } from "../src/attach.ts";
import { inject } from "../src/inject.ts";
import { merge } from "../src/merge.ts";
import { resolve } from "../src/resolve.ts";
import type { ResolvedAdapter } from "../src/spec.ts";
import { type Base, base, node, random } from "./bases.ts";
import { apart, engine, runFile } from "./golden.ts";

const dice = seededRandom("levels");

/** Levels of an integer type around its zero point (the middle for uint8). */
function levels(dtype: DType, shape: readonly number[]): Tensor {
  const middle = dtype === "uint8" ? 128 : 0;
  return tensorOf(
    dtype,
    shape,
    Array.from({ length: sizeOf(shape) }, () => middle + Math.round(100 * (2 * dice.uniform() - 1))),
  );
}

const f32 = (...values: number[]) => tensorOf("float32", values.length === 1 ? [] : [values.length], values);
const u8 = (value: number) => tensorOf("uint8", [], [value]);
const i8 = (value: number) => tensorOf("int8", [], [value]);
const channels = [0.011, 0.02, 0.007, 0.013];

function microsoft(
  op: string,
  inputs: readonly string[],
  output: string,
  attributes: Parameters<typeof node>[3] = {},
): Node {
  return { ...node(op, inputs, output, attributes, "/fc/MatMul"), domain: "com.microsoft" };
}

const x = { x: random([3, 5], "x") };
const image = { x: random([2, 5, 6, 6], "x") };
const quantised = node("QuantizeLinear", ["x", "xs", "xz"], "xq");
const [xs, xz, ws, wz] = [f32(0.03), u8(128), f32(0.02), i8(0)];

/** Bases whose float output is the quantised product and then the sum: in 5, out 4. */
const BESIDE: Readonly<Record<string, Base>> = {
  "dynamic int8, a scale per channel": base(
    [
      { ...node("DynamicQuantizeLinear", ["x"], "xq"), outputs: ["xq", "xs", "xz"] },
      node("MatMulInteger", ["xq", "w", "xz", "wz"], "i", {}, "/fc/MatMul"),
      node("Cast", ["i"], "f", { to: 1 }),
      node("Mul", ["xs", "ws"], "s"),
      node("Mul", ["f", "s"], "y"),
    ],
    { w: levels("int8", [5, 4]), ws: f32(...channels), wz: tensorOf("int8", [4], [0, 0, 0, 0]) },
    x,
  ),
  "dynamic int8, scaled twice, then by something else": base(
    [
      { ...node("DynamicQuantizeLinear", ["x"], "xq"), outputs: ["xq", "xs", "xz"] },
      node("MatMulInteger", ["xq", "w", "xz"], "i", {}, "/fc/MatMul"),
      node("Cast", ["i"], "f", { to: 1 }),
      node("Mul", ["ws", "f"], "half"),
      node("Mul", ["half", "xs"], "h"),
      node("Mul", ["h", "one"], "y"),
    ],
    { w: levels("int8", [5, 4]), ws, one: f32(1) },
    x,
  ),
  "quantise and dequantise around MatMul": base(
    [
      quantised,
      node("DequantizeLinear", ["xq", "xs", "xz"], "xd"),
      node("DequantizeLinear", ["w", "ws", "wz"], "wd"),
      node("MatMul", ["xd", "wd"], "h", {}, "/fc/MatMul"),
      node("QuantizeLinear", ["h", "ys", "xz"], "hq"),
      node("DequantizeLinear", ["hq", "ys", "xz"], "y"),
    ],
    { w: levels("int8", [5, 4]), xs, xz, ws, wz, ys: f32(0.1) },
    x,
  ),
  "dequantised by axis, Gemm transB": base(
    [
      node("DequantizeLinear", ["w", "ws", "wz"], "wd", { axis: 0 }),
      node("Gemm", ["x", "wd"], "y", { transB: 1 }, "/fc/Gemm"),
    ],
    { w: levels("int8", [4, 5]), ws: f32(...channels), wz: tensorOf("int8", [4], [0, 0, 0, 0]) },
    x,
  ),
  QLinearMatMul: base(
    [
      quantised,
      node("QLinearMatMul", ["xq", "xs", "xz", "w", "ws", "wz", "ys", "yz"], "yq", {}, "/fc/MatMul"),
      node("DequantizeLinear", ["yq", "ys", "yz"], "y"),
    ],
    { w: levels("int8", [5, 4]), xs, xz, ws, wz, ys: f32(0.1), yz: u8(120) },
    x,
  ),
  QLinearConv: base(
    [
      quantised,
      node("QLinearConv", ["xq", "xs", "xz", "w", "ws", "wz", "ys", "yz"], "yq", { pads: [1, 0, 1, 0] }),
      node("DequantizeLinear", ["yq", "ys", "yz"], "y"),
    ],
    { w: levels("int8", [4, 5, 3, 3]), xs, xz, ws, wz, ys: f32(0.3), yz: u8(120) },
    image,
  ),
  ConvInteger: base(
    [
      { ...node("DynamicQuantizeLinear", ["x"], "xq"), outputs: ["xq", "xs", "xz"] },
      node("ConvInteger", ["xq", "w", "xz"], "i", { strides: [2, 2] }),
      node("Cast", ["i"], "f", { to: 1 }),
      node("Mul", ["xs", "ws"], "s"),
      node("Mul", ["f", "s"], "y"),
    ],
    { w: levels("uint8", [4, 5, 3, 3]), ws },
    image,
  ),
  "4-bit MatMulNBits": base(
    [microsoft("MatMulNBits", ["x", "w", "ws"], "y", { K: 32, N: 4, bits: 4, block_size: 16 })],
    { w: levels("uint8", [4, 2, 8]), ws: random([8], "ws") },
    { x: random([2, 3, 32], "x") },
  ),
  DynamicQuantizeMatMul: base(
    [microsoft("DynamicQuantizeMatMul", ["x", "w", "ws", "wz"], "y")],
    { w: levels("int8", [5, 4]), ws, wz },
    x,
  ),
  "a table of levels, rows dequantised": base(
    [node("Gather", ["w", "ids"], "q", {}, "/fc/Gather"), node("DequantizeLinear", ["q", "ws", "wz"], "y")],
    { w: levels("int8", [7, 4]), ws, wz },
    { ids: tensorOf("int64", [2, 3], [0, 6, 3, 3, 1, 5]) },
  ),
};

/** Bases where what follows the product is not linear in it, or where the sum must be quantised again. */
const WITHIN: Readonly<Record<string, Base>> = {
  "two QLinearMatMul in a row": base(
    [
      quantised,
      node("QLinearMatMul", ["xq", "xs", "xz", "w", "ws", "wz", "hs", "yz"], "hq", {}, "/a/MatMul"),
      node("QLinearMatMul", ["hq", "hs", "yz", "v", "ws", "wz", "ys", "yz"], "yq", {}, "/b/MatMul"),
      node("DequantizeLinear", ["yq", "ys", "yz"], "y"),
    ],
    {
      w: levels("int8", [5, 4]),
      v: levels("int8", [4, 4]),
      xs,
      xz,
      ws,
      wz,
      hs: f32(0.1),
      ys: f32(0.3),
      yz: u8(120),
    },
    x,
  ),
  FusedGemm: base(
    [microsoft("FusedGemm", ["x", "w", "b"], "y", { activation: "Tanh", transB: 1 })],
    { w: [4, 5], b: [4] },
    x,
  ),
  "FusedMatMul transB": base(
    [microsoft("FusedMatMul", ["x", "w"], "y", { transB: 1 })],
    { w: [4, 5] },
    { x: random([2, 3, 5], "x") },
  ),
  "Attention with queries, keys and values in one weight": base(
    [microsoft("Attention", ["x", "w", "b"], "y", { num_heads: 2 })],
    { w: [8, 24], b: [24] },
    { x: random([2, 3, 8], "x") },
  ),
};

function adapted({ bytes }: Base, rank = 3): ResolvedAdapter {
  return resolve(read(bytes), { rank, alpha: 2, targets: ["*"] });
}

function drawn({ tensors }: ResolvedAdapter): Map<string, Float32Array> {
  const draw = seededRandom("factors");
  return new Map(
    tensors.map(({ name, shape }) => [
      name,
      Float32Array.from({ length: sizeOf(shape) }, () => draw.normal() / 2),
    ]),
  );
}

const run = async (bytes: Uint8Array, feeds: Tensors) => (await runFile(bytes, feeds)).get("y")!;

describe.each(Object.entries({ ...BESIDE, ...WITHIN }))("%s", (_, given) => {
  const adapter = adapted(given);
  const tensors = drawn(adapter);
  const file = attach(given.bytes, adapter);

  test("attached at rank 0 it is the base, bit for bit, and it comes apart again", async () => {
    const empty = await run(file, new Map([...given.feeds, ...emptyFeeds(adapter)]));
    expect([...empty]).toEqual([...(await run(given.bytes, given.feeds))]);
    expect(Buffer.compare(detach(file), given.bytes)).toBe(0);
  });

  test("what is attached answers as the injected graph", async () => {
    const attached = await run(file, new Map([...given.feeds, ...attachedFeeds(adapter, tensors)]));
    const program = await engine.load(inject(trace(read(given.bytes).graph), adapter));
    const inputs = adapter.tensors.map(({ name, shape }) => {
      return [name, float32(shape, tensors.get(name)!)] as const;
    });
    const results = await program.step(new Map([...given.feeds, ...inputs]));
    await program.dispose();
    const injected = results.get("y")!.data as Float32Array;
    expect(apart(attached, injected) / Math.max(...attached.map(Math.abs))).toBeLessThan(1e-5);
    expect(apart(attached, await run(given.bytes, given.feeds))).toBeGreaterThan(0.1);
  });
});

/** scale·B·A·x for rows x, as written in docs/onnx.md. */
function slowDelta(adapter: ResolvedAdapter, tensors: Map<string, Float32Array>, rows: number[][]): number[] {
  const [module] = adapter.modules;
  const { in: width, out, rank, scale } = module!;
  const [a, b] = [...tensors.values()] as [Float32Array, Float32Array];
  return rows.flatMap((row) =>
    Array.from({ length: out }, (_, o) => {
      let total = 0;
      for (let r = 0; r < rank; r++)
        for (let i = 0; i < width; i++) total += scale * b[o * rank + r]! * a[r * width + i]! * row[i]!;
      return total;
    }),
  );
}

test.each(Object.entries(BESIDE).filter(([name]) => !/Conv|table/.test(name)))(
  "%s: what is added is scale·B·A of the float input, on no grid",
  async (name, given) => {
    const adapter = adapted(given);
    const tensors = drawn(adapter);
    const input = given.feeds.get("x")!;
    const width = input.shape.at(-1)!;
    // Where floats are quantised and dequantised, the node reads what is left of them, and so does A.
    const seen = (value: number) => (name.includes("around") ? 0.03 * Math.round(value / 0.03) : value);
    const values = Array.from(input.data as Float32Array, seen);
    const rows = Array.from({ length: values.length / width }, (_, r) =>
      values.slice(r * width, (r + 1) * width),
    );
    const attached = await run(
      attach(given.bytes, adapter),
      new Map([...given.feeds, ...attachedFeeds(adapter, tensors)]),
    );
    const before = await run(given.bytes, given.feeds);
    const added = attached.map((value, at) => value - before[at]!);
    const size = Math.max(...attached.map(Math.abs));
    expect(apart(added, slowDelta(adapter, tensors, rows)) / size).toBeLessThan(1e-6);
  },
);

test("merging refuses quantised weights by name and says what to do", () => {
  for (const name of ["dynamic int8, a scale per channel", "4-bit MatMulNBits"]) {
    const given = BESIDE[name]!;
    const adapter = adapted(given);
    expect(() => merge(given.bytes, adapter, drawn(adapter))).toThrow(
      /merge: fc, weight w: .*data type [23].*Attach the adapter beside the base/,
    );
  }
});

test("an integer product in no pattern that we know is no target", () => {
  const given = base(
    [
      { ...node("DynamicQuantizeLinear", ["x"], "xq"), outputs: ["xq", "xs", "xz"] },
      node("MatMulInteger", ["xq", "w", "xz"], "y"),
    ],
    { w: levels("int8", [5, 4]) },
    x,
  );
  expect(() => adapted(given)).toThrow(/a model with such weights, got no match/);
});

test("a factor that is no scale does not count as one: the sum stands before it", () => {
  const { bytes } = BESIDE["dynamic int8, scaled twice, then by something else"]!;
  const { graph } = read(attach(bytes, adapted({ bytes, feeds: new Map() })));
  const by = new Map(graph.nodes.map((one) => [one.outputs[0], one]));
  expect(by.get("h")!.op).toBe("Add");
  expect(by.get("y")!.inputs).toEqual(["h", "one"]);
});
