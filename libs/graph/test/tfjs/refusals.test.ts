import { Fault } from "@tutti/foundation/fault";
import { describe, expect, test } from "vitest";
import { tfjsEngine } from "../../src/engines/tfjs/engine.ts";
import type { Graph, Tensor } from "../../src/ir.ts";
import { trace } from "../../src/trace.ts";
import { f32, i32, i64, tf } from "./harness.ts";

const x = f32([2, 3], [1, 2, 3, 4, 5, 6]);
const one = i64([1], [1]);
const two = i64([2], [1, 1]);

type Inputs = Readonly<Record<string, Tensor>>;
type One = readonly [op: string, asked: string, inputs: Inputs];

/** Operators whose shapes depend on a value that is fed: the input each must ask for. */
const CASES: readonly One[] = [
  ["Slice", "starts", { x, starts: one, ends: one }],
  ["Reshape", "shape", { x, shape: two }],
  ["Expand", "shape", { x, shape: two }],
  ["Tile", "repeats", { x, repeats: two }],
  ["Pad", "pads", { x, pads: i64([4], [0, 0, 0, 0]) }],
  ["TopK", "k", { x, k: one }],
  ["ReduceSum", "axes", { x, axes: one }],
  ["Unsqueeze", "axes", { x, axes: one }],
  ["CumSum", "axis", { x, axis: i64([], [1]) }],
  ["OneHot", "depth", { indices: one, depth: i64([], [3]), values: two }],
  ["Range", "start", { start: i64([], [0]), limit: i64([], [3]), delta: i64([], [1]) }],
  ["ConstantOfShape", "shape", { shape: two }],
  ["NonZero", "x", { x }],
];

describe("a value that a shape depends on, when it is fed", () => {
  test.each(CASES)("%s asks for %s", async (op, asked, inputs) => {
    const refusal = await loaded(graphOf(op, inputs)).catch((error: unknown) => error);
    expect(refusal).toBeInstanceOf(Fault);
    const { code, message } = refusal as Fault;
    expect(code).toBe("unsupported");
    expect(message).toContain(`${op} "the ${op}" (opset 17)`);
    expect(message).toMatch(new RegExp(`\\(${asked}\\): expected a value known before the run`));
  });

  test("an integer beyond 32 bits is refused with its place, as a constant and as a feed", async () => {
    const far = { ...i64([2], [1, 1]), data: BigInt64Array.of(1n, 2n ** 40n) };
    const graph = graphOf("Add", { a: two, b: far });
    const held = { ...graph, inputs: graph.inputs.slice(0, 1), initializers: new Map([["b", far]]) };
    await expect(loaded(held)).rejects.toThrow("b[1]: expected an int64 within 32 bits, got 1099511627776");
    const program = await loaded(graph);
    const feeds = new Map([
      ["a", two],
      ["b", far],
    ]);
    await expect(program.step(feeds)).rejects.toThrow("b[1]: expected an int64 within 32 bits");
    await program.dispose();
  });
});

test("the least of no int64, which 32 bits do not hold", async () => {
  const refusal =
    'ReduceMin "the ReduceMin" (opset 17): input 0: expected elements, or fewer bits, got no int64';
  await expect(loaded(graphOf("ReduceMin", { x: i64([0, 2], []) }))).rejects.toThrow(refusal);
  await (await loaded(graphOf("ReduceSum", { x: i64([0, 2], []) }))).dispose();
  await (await loaded(graphOf("ReduceMin", { x: i32([0, 2], []) }))).dispose();
});

async function loaded(graph: Graph) {
  await tf.setBackend("wasm");
  return tfjsEngine(tf, "wasm").load(trace(graph));
}

function graphOf(op: string, inputs: Inputs): Graph {
  const node = { op, domain: "", name: `the ${op}`, inputs: Object.keys(inputs), outputs: ["y"] };
  return {
    name: "one",
    opset: 17,
    inputs: Object.entries(inputs).map(([name, { dtype, shape }]) => ({ name, dtype, shape })),
    outputs: [{ name: "y", dtype: "float32", shape: null }],
    initializers: new Map(),
    nodes: [{ ...node, attributes: new Map(), metadata: new Map() }],
  };
}
