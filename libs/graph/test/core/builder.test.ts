import * as ort from "onnxruntime-node";
import { describe, expect, test } from "vitest";
import { builderOn } from "../../src/builder.ts";
import { onnxruntimeEngine } from "../../src/engines/onnxruntime/engine.ts";
import { evaluate } from "../../src/evaluate/evaluate.ts";
import { float32, type TracedGraph } from "../../src/ir.ts";
import { int64, numbers, tensorOf } from "../../src/tensor.ts";

const weight = float32([2, 3], Float32Array.of(1, 2, 3, 4, 5, 6));

function small(opset?: number): TracedGraph {
  const builder = builderOn(undefined, opset);
  const x = builder.input({ name: "x", dtype: "float32", shape: [4, 2] });
  builder.output(builder.emit("MatMul", [x, builder.constant(weight, "w")]), "y");
  return builder.finish();
}

test("a tensor whose values are not as many as its shape says is a bug where it is made", () => {
  expect(() => float32([2, 3], new Float32Array(5))).toThrow(/float32: \[2,3\] of 5 values/);
  expect(() => int64([1, 2], [3])).toThrow(/int64: \[3\] of 2 values/);
});

describe("builder", () => {
  test("what it builds, onnxruntime runs and the slow twin agrees", async () => {
    const graph = small();
    const feeds = new Map([["x", tensorOf("float32", [4, 2], [1, 2, 3, 4, 5, 6, 7, 8])]]);
    const program = await onnxruntimeEngine(ort).load(graph);
    const y = (await program.step(feeds)).get("y")!;
    await program.dispose();
    expect(numbers(y)).toEqual([9, 12, 15, 19, 26, 33, 29, 40, 51, 39, 54, 69]);
    expect(numbers(evaluate(graph, feeds).get("y")!)).toEqual(numbers(y));
  });

  test("an ill-shaped node fails where it is emitted, naming operator and shapes", () => {
    const builder = builderOn(small());
    expect(() => builder.emit("Add", ["x", "y"])).toThrow(
      /^Add "add_\d+" \(opset 17\): shapes.*\[4,2\] and \[4,3\]/,
    );
    expect(() => builder.emit("Frobnicate", ["x"])).toThrow(/Frobnicate.*expected an operator Tutti knows/);
    expect(() => builder.emit("Relu", ["nowhere"])).toThrow(/value nowhere/);
    expect(() => builder.emit("Softmax", ["x"], { axis: 1.5 })).toThrow(/Softmax.axis: integers/);
  });

  test.each([
    ["ReduceSum", 11, 1],
    ["ReduceSum", 13, 2],
    ["ReduceMean", 17, 1],
    ["ReduceMean", 18, 2],
    ["Unsqueeze", 12, 1],
    ["Unsqueeze", 13, 2],
  ])("axes of %s in operator set %i stand where onnxruntime wants them", async (op, opset, inputs) => {
    const builder = builderOn(small(opset));
    builder.output(builder.emit(op, ["x"], { axes: [0] }), "z");
    const graph = builder.finish();
    const node = graph.nodes.find((node) => node.op === op)!;
    expect([node.inputs.length, node.attributes.has("axes")]).toEqual([inputs, inputs === 1]);
    await (await onnxruntimeEngine(ort).load(graph)).dispose();
  });

  test("equal nodes and equal small constants are made once", () => {
    const builder = builderOn(small());
    expect(builder.emit("Relu", ["x"])).toBe(builder.emit("Relu", ["x"]));
    expect(builder.emit("Relu", ["y"])).not.toBe(builder.emit("Relu", ["x"]));
    expect(builder.scalar(0.5)).toBe(builder.scalar(0.5));
    expect(builder.scalar(0)).not.toBe(builder.scalar(-0));
    expect(builder.ints([1])).not.toBe(builder.constant(tensorOf("int32", [1], [1])));
  });

  test("nodes over constants are computed at once", () => {
    const builder = builderOn(small());
    const turned = builder.emit("Transpose", [builder.constant(weight)], { perm: [1, 0] });
    expect(numbers(builder.constantOf(turned)!)).toEqual([1, 4, 2, 5, 3, 6]);
  });

  test("a broadcast that would grow a constant stays a node", () => {
    const builder = builderOn(small());
    const big = builder.emit("Expand", [builder.scalar(1), builder.ints([1000, 1000])]);
    expect(builder.constantOf(big)).toBeUndefined();
    expect(builder.shape(big)).toEqual([1000, 1000]);
  });

  test("new names never collide with names of the base", () => {
    const first = builderOn(small());
    const taken = first.emit("Relu", ["x"]);
    first.output(taken);
    const second = builderOn(first.finish());
    const again = second.emit("Neg", [second.emit("Relu", ["y"])]);
    expect(first.finish().statics.has(again)).toBe(false);
    expect(second.emit("Relu", ["y"])).not.toBe(taken);
    expect(() => second.input({ name: "x", dtype: "float32", shape: [] })).toThrow(
      /input x: expected a new name/,
    );
    expect(() => second.output("x", "y")).toThrow(/output y: expected a new name/);
  });

  test("finish keeps only what the outputs need, and the base stays as it was", () => {
    const base = small();
    const before = JSON.stringify([
      base.nodes.length,
      [...base.initializers.keys()],
      [...base.statics.keys()],
    ]);
    const builder = builderOn(base);
    builder.emit("Relu", ["x"]);
    builder.constant(weight, "unused");
    const graph = builder.finish();
    expect(graph.nodes.map(({ op }) => op)).toEqual(["MatMul", "Identity"]);
    expect([...graph.initializers.values()]).toEqual([weight]);
    expect(graph.initializers.values().next().value).toBe(weight);
    expect(JSON.stringify([base.nodes.length, [...base.initializers.keys()], [...base.statics.keys()]])).toBe(
      before,
    );
  });

  test("an output may be an input or a constant as well", async () => {
    const builder = builderOn(small());
    builder.output("x", "same");
    builder.output(builder.constant(weight), "fixed");
    const program = await onnxruntimeEngine(ort).load(builder.finish());
    const x = tensorOf("float32", [4, 2], [1, 2, 3, 4, 5, 6, 7, 8]);
    const results = await program.step(new Map([["x", x]]));
    await program.dispose();
    expect([numbers(results.get("same")!), numbers(results.get("fixed")!)]).toEqual([
      numbers(x),
      numbers(weight),
    ]);
  });
});

test("the engine refuses feeds that are missing or of another shape", async () => {
  const program = await onnxruntimeEngine(ort).load(small());
  await expect(program.step(new Map())).rejects.toThrow("feed x: expected float32 [4,2], got nothing");
  const wrong = new Map([["x", tensorOf("float32", [2, 4], new Array(8).fill(0))]]);
  await expect(program.step(wrong)).rejects.toThrow("feed x: expected float32 [4,2], got float32 [2,4]");
  await program.dispose();
});
