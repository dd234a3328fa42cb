import { describe, expect, test } from "vitest";
import { evaluate } from "../../src/evaluate/evaluate.ts";
import { type Attribute, type Dimension, float32, type Graph, type Node, type Tensor } from "../../src/ir.ts";
import { int64, numbers, tensorOf } from "../../src/tensor.ts";
import { trace } from "../../src/trace.ts";

function node(
  op: string,
  inputs: string[],
  output: string,
  attributes: Record<string, Attribute> = {},
): Node {
  return {
    op,
    domain: "",
    name: `${op}_`,
    inputs,
    outputs: [output],
    attributes: new Map(Object.entries(attributes)),
    metadata: new Map(),
  };
}

type Parts = {
  nodes: Node[];
  outputs: string[];
  initializers?: Record<string, Tensor>;
  inputs?: Record<string, Dimension[]>;
};

function graph({ nodes, outputs, initializers = {}, inputs = { x: ["batch", 3] } }: Parts): Graph {
  return {
    name: "g",
    opset: 17,
    inputs: Object.entries(inputs).map(([name, shape]) => ({ name, dtype: "float32", shape })),
    outputs: outputs.map((name) => ({ name, dtype: "float32", shape: null })),
    initializers: new Map(Object.entries(initializers)),
    nodes,
  };
}

const integer = (value: number): Attribute => ({ kind: "int", value });

describe("binding sizes", () => {
  const pair = graph({
    nodes: [node("Add", ["x", "z"], "y")],
    outputs: ["y"],
    inputs: { x: ["batch", 3], z: ["batch", 1] },
  });

  test("by symbol, or learnt from one input's shape", () => {
    for (const bind of [{ symbols: { batch: 5 } }, { shapes: { x: [5, 3] } }]) {
      expect(trace(pair, bind).statics.get("y")!.shape).toEqual([5, 3]);
    }
  });

  test("Faults name the input and what is missing or clashes", () => {
    expect(() => trace(pair)).toThrow(/input x: expected a size for dimension batch.*Bind it/);
    expect(() => trace(pair, { shapes: { x: [5, 3], z: [4, 1] } })).toThrow(
      /input z: expected \[batch,1\], got \[4,1\]/,
    );
    expect(() => trace(pair, { shapes: { x: [5, 3, 1] } })).toThrow(
      /input x: expected \[batch,3\], got \[5,3,1\]/,
    );
    expect(() => trace(pair, { shapes: { q: [1] } })).toThrow(/no input q; the model has x, z/);
    expect(() => trace(pair, { symbols: { batch: -1 } })).toThrow(/a size, got -1/);
  });

  test("a size the file fixes may be bound otherwise where the nodes bear it", () => {
    const fixed = graph({ nodes: [node("Relu", ["x"], "y")], outputs: ["y"], inputs: { x: [2, 3] } });
    expect(trace(fixed, { shapes: { x: [7, 3] } }).statics.get("y")!.shape).toEqual([7, 3]);
  });
});

describe("folding", () => {
  test("shape arithmetic vanishes; what is left computes the same", () => {
    const flat = graph({
      nodes: [
        node("Shape", ["x"], "shape"),
        node("Gather", ["shape", "zero"], "batch", { axis: integer(0) }),
        node("Unsqueeze", ["batch", "zeros"], "batches"),
        node("Concat", ["batches", "rest"], "target", { axis: integer(0) }),
        node("Reshape", ["x", "target"], "y"),
      ],
      outputs: ["y"],
      initializers: { zero: int64([0], []), zeros: int64([0]), rest: int64([3, 1]) },
    });
    const traced = trace(flat, { symbols: { batch: 2 } });
    expect(traced.nodes.map(({ op }) => op)).toEqual(["Reshape"]);
    expect([...traced.initializers.keys()]).toEqual(["target"]);
    expect(traced.statics.get("y")).toEqual({ dtype: "float32", shape: [2, 3, 1] });
    const feeds = new Map([["x", tensorOf("float32", [2, 3], [1, 2, 3, 4, 5, 6])]]);
    expect(numbers(evaluate(traced, feeds).get("y")!)).toEqual([1, 2, 3, 4, 5, 6]);
  });

  test("weights are shared with the graph, not copied", () => {
    const data = new Float32Array(300_000);
    const big = graph({
      nodes: [node("Identity", ["w"], "v"), node("MatMul", ["x", "v"], "y")],
      outputs: ["y"],
      initializers: { w: float32([3, 100_000], data) },
    });
    const traced = trace(big, { symbols: { batch: 1 } });
    expect([...traced.initializers.keys()]).toEqual(["v"]);
    expect(traced.initializers.get("v")!.data).toBe(data);
  });

  test("dead nodes go, their weights too; inputs stay", () => {
    const dead = graph({
      nodes: [node("MatMul", ["x", "w"], "unused"), node("Relu", ["x"], "y")],
      outputs: ["y"],
      initializers: { w: float32([3, 1], new Float32Array(3)) },
      inputs: { x: [2, 3], idle: [1] },
    });
    const traced = trace(dead);
    expect(traced.nodes.map(({ op }) => op)).toEqual(["Relu"]);
    expect(traced.initializers.size).toBe(0);
    expect(traced.inputs.map(({ name }) => name)).toEqual(["x", "idle"]);
  });

  test("a small file cannot ask for huge constants", () => {
    const bomb = graph({
      nodes: [node("ConstantOfShape", ["size"], "big"), node("Add", ["x", "big"], "y")],
      outputs: ["y"],
      initializers: { size: int64([100_000, 1000, 3]) },
      inputs: { x: [3] },
    });
    const traced = trace(bomb);
    expect(traced.initializers.get("big")).toBeUndefined();
    expect(traced.nodes.map(({ op }) => op)).toEqual(["ConstantOfShape", "Add"]);
    const beyond = { ...bomb, initializers: new Map([["size", int64([2 ** 20, 2 ** 20, 3])]]) };
    expect(() => trace(beyond)).toThrow(/ConstantOfShape "ConstantOfShape_".*at most 2147483647 elements/);
  });
});

test("many small folds do not add up to a large one", () => {
  const count = 4_000;
  const nodes = Array.from({ length: count }, (_, i) => node("ConstantOfShape", ["size"], `c${i}`));
  const all = Array.from({ length: count }, (_, i) => `c${i}`);
  const many = graph({
    nodes: [...nodes, node("Sum", ["x", ...all], "y")],
    outputs: ["y"],
    initializers: { size: int64([65_536]) },
    inputs: { x: [1] },
  });
  const traced = trace(many);
  const bytes = [...traced.initializers.values()].reduce((sum, { data }) => sum + data.length * 4, 0);
  expect(bytes).toBeLessThan(512 * 2 ** 20);
  expect(traced.nodes.length).toBeGreaterThan(1000);
});

test("nodes that change nothing are left out, unless they name an output", () => {
  const chain = graph({
    nodes: [
      node("Dropout", ["x"], "a"),
      node("Cast", ["a"], "b", { to: integer(1) }),
      node("Identity", ["b"], "kept"),
      node("Relu", ["b"], "y"),
    ],
    outputs: ["kept", "y"],
  });
  const traced = trace(chain, { symbols: { batch: 1 } });
  expect(traced.nodes.map(({ op, inputs }) => [op, ...inputs])).toEqual([
    ["Identity", "x"],
    ["Relu", "x"],
  ]);
  const trains = graph({
    nodes: [node("Dropout", ["x", "", "on"], "y")],
    outputs: ["y"],
    initializers: { on: tensorOf("bool", [], [1]) },
  });
  expect(() => trace(trains, { symbols: { batch: 1 } })).toThrow(/Dropout.*training mode: expected off/);
});

describe("If", () => {
  const branch = (op: string): Attribute => ({
    kind: "graph",
    value: {
      ...graph({
        nodes: [node(op, ["x"], "inner"), node("Add", ["inner", "one"], "result")],
        outputs: ["result"],
        initializers: { one: tensorOf("float32", [], [1]) },
        inputs: {},
      }),
    },
  });
  const branches = { then_branch: branch("Relu"), else_branch: branch("Neg") };

  test.each([
    [1, "Relu"],
    [0, "Neg"],
  ])("condition %i takes its branch in line", (condition, op) => {
    const two = graph({
      // Two of them, so that the names inside would clash.
      nodes: [
        node("If", ["c"], "a", branches),
        node("If", ["c"], "b", branches),
        node("Add", ["a", "b"], "y"),
      ],
      outputs: ["y"],
      initializers: { c: tensorOf("bool", [], [condition]) },
    });
    const traced = trace(two, { symbols: { batch: 1 } });
    expect(traced.nodes.filter((node) => node.op === op).length).toBe(2);
    const y = evaluate(traced, new Map([["x", tensorOf("float32", [1, 3], [1, 2, -3])]])).get("y")!;
    expect(numbers(y)).toEqual(condition ? [4, 6, 2] : [0, -2, 8]);
  });

  test("a condition that is computed is refused by name", () => {
    const open = graph({ nodes: [node("If", ["x"], "y", branches)], outputs: ["y"], inputs: { x: [1] } });
    expect(() => trace(open)).toThrow(/If "If_" \(opset 17\): expected a condition known before the run/);
  });
});

test("what the run would decide is refused where it stands", () => {
  const open = graph({ nodes: [node("NonZero", ["x"], "y")], outputs: ["y"], inputs: { x: [3] } });
  expect(() => trace(open)).toThrow(
    /NonZero "NonZero_" \(opset 17\): input 0 \(x\): expected a value known before the run/,
  );
});
