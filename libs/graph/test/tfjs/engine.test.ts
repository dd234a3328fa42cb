import { Fault } from "@tutti/foundation/fault";
import { beforeEach, describe, expect, test } from "vitest";
import { tfjsEngine } from "../../src/engines/tfjs/engine.ts";
import type { Attribute, Node, Static, Tensor, TracedGraph } from "../../src/ir.ts";
import { tensorOf } from "../../src/tensor.ts";
import { f32, i64, tf } from "./harness.ts";

const node = (
  op: string,
  inputs: string[],
  outputs: string[],
  attributes: Record<string, Attribute> = {},
): Node => ({
  op,
  domain: "",
  name: `the ${op}`,
  inputs,
  outputs,
  attributes: new Map(Object.entries(attributes)),
  metadata: new Map(),
});

type Values = Record<string, Static>;

/** A graph from its nodes; statics of inputs and constants are their own. */
function graphOf(
  nodes: Node[],
  values: { inputs: Values; constants?: Record<string, Tensor>; made: Values; outputs: string[] },
): TracedGraph {
  const { inputs, constants = {}, made, outputs } = values;
  const statics = new Map(Object.entries({ ...inputs, ...constants, ...made }));
  const info = (name: string) => ({ name, ...statics.get(name)! });
  return {
    name: "test",
    opset: 17,
    inputs: Object.keys(inputs).map(info),
    outputs: outputs.map(info),
    initializers: new Map(Object.entries(constants)),
    nodes,
    statics,
  };
}

const asHalf = ({ shape, data }: Tensor): Tensor =>
  tensorOf("float16", shape, Array.from(data as Float32Array));

const square: Static = { dtype: "float32", shape: [2, 2] };
const x = f32([2, 2], [1, 2, 3, 4]);
const w = f32([2, 2], [1, 0, 2, 1]);

beforeEach(async () => {
  await tf.setBackend("wasm");
});

describe("loading", () => {
  test("an unknown operator is refused, with node, operator, domain and operator set", async () => {
    const odd = { ...node("Fancy", ["x"], ["y"]), domain: "com.acme" };
    const graph = graphOf([odd], { inputs: { x: square }, made: { y: square }, outputs: ["y"] });
    const error = await tfjsEngine(tf, "wasm")
      .load(graph)
      .catch((e: unknown) => e);
    expect(error).toBeInstanceOf(Fault);
    expect((error as Fault).code).toBe("unsupported");
    expect((error as Fault).message).toMatch(
      /com\.acme\.Fancy "the Fancy" \(opset 17\).*Fancy of domain com\.acme/,
    );
  });
  test("an unknown operator nobody reads does not matter", async () => {
    const nodes = [node("Fancy", ["x"], ["z"]), node("Neg", ["x"], ["y"])];
    const graph = graphOf(nodes, { inputs: { x: square }, made: { y: square, z: square }, outputs: ["y"] });
    const program = await tfjsEngine(tf, "wasm").load(graph);
    expect((await program.step(new Map([["x", x]]))).get("y")!.data).toEqual(Float32Array.of(-1, -2, -3, -4));
    await program.dispose();
  });
  test("strings are refused by name", async () => {
    const text: Static = { dtype: "string", shape: [2] };
    const cast = node("Cast", ["x"], ["y"], { to: { kind: "int", value: 8 } });
    const graph = graphOf([cast], { inputs: { x: square }, made: { y: text }, outputs: ["y"] });
    await expect(tfjsEngine(tf, "wasm").load(graph)).rejects.toThrow(/y: .*got string/);
  });
  test("halves are fed and given out, and computed in float32, expansions too", async () => {
    const half: Static = { dtype: "float16", shape: [2, 2] };
    const values = { inputs: { x: half }, constants: { w: asHalf(w) }, made: { m: half, y: half } };
    const shrink = node("Shrink", ["m"], ["y"], { bias: { kind: "float", value: 0.1 } });
    const graph = graphOf([node("MatMul", ["x", "w"], ["m"]), shrink], { ...values, outputs: ["y"] });
    const program = await tfjsEngine(tf, "wasm").load(graph);
    const got = (await program.step(new Map([["x", asHalf(x)]]))).get("y")!;
    // [1 2; 3 4] times [1 0; 2 1], each moved down by 0.1.
    expect(got).toEqual(asHalf(f32([2, 2], [4.9, 1.9, 10.9, 3.9])));
    await program.dispose();
  });
  test("a backend nobody registered is a fault", async () => {
    const graph = graphOf([], { inputs: { x: square }, made: {}, outputs: ["x"] });
    await expect(tfjsEngine(tf, "webgpu").load(graph)).rejects.toThrow(/tfjs backend webgpu/);
  });
  test("a refused load frees what it had uploaded", async () => {
    const nodes = [node("Transpose", ["w"], ["t"]), node("Fancy", ["x", "t"], ["y"])];
    const values = {
      inputs: { x: square },
      constants: { w },
      made: { t: square, y: square },
      outputs: ["y"],
    };
    const before = tf.memory().numTensors;
    await expect(tfjsEngine(tf, "wasm").load(graphOf(nodes, values))).rejects.toThrow(/Fancy/);
    expect(tf.memory().numTensors).toBe(before);
  });
});

describe("constants", () => {
  test("what depends on constants alone runs once, at load, and only its result is held", async () => {
    const nodes = [
      node("Transpose", ["w"], ["t"]),
      node("Neg", ["t"], ["u"]),
      node("MatMul", ["x", "u"], ["y"]),
    ];
    const values = {
      inputs: { x: square },
      constants: { w },
      made: { t: square, u: square, y: square },
      outputs: ["y"],
    };
    const before = tf.memory().numTensors;
    const program = await tfjsEngine(tf, "wasm").load(graphOf(nodes, values));
    expect(tf.memory().numTensors - before).toBe(1);
    expect((await program.step(new Map([["x", x]]))).get("y")!.data).toEqual(
      Float32Array.of(-1, -4, -3, -10),
    );
    await program.dispose();
    expect(tf.memory().numTensors).toBe(before);
  });
  test("a weight that is read both ways is held in both forms, and each once", async () => {
    const transB: Record<string, Attribute> = { transB: { kind: "int", value: 1 } };
    const nodes = [
      node("Gemm", ["x", "w"], ["a"], transB),
      node("Gemm", ["a", "w"], ["b"], transB),
      node("Gemm", ["b", "w"], ["y"]),
    ];
    const values = {
      inputs: { x: square },
      constants: { w },
      made: { a: square, b: square, y: square },
      outputs: ["y"],
    };
    const before = tf.memory().numTensors;
    const program = await tfjsEngine(tf, "wasm").load(graphOf(nodes, values));
    expect(tf.memory().numTensors - before).toBe(2);
    await program.dispose();
  });
  test("a shape computed from constants by the graph itself is known at load", async () => {
    const nodes = [node("Add", ["one", "one"], ["two"]), node("Slice", ["x", "one", "two"], ["y"])];
    const row: Static = { dtype: "float32", shape: [1, 2] };
    const one: Static = { dtype: "int64", shape: [1] };
    const values = {
      inputs: { x: square },
      constants: { one: i64([1], [1]) },
      made: { two: one, y: row },
      outputs: ["y"],
    };
    const program = await tfjsEngine(tf, "wasm").load(graphOf(nodes, values));
    expect((await program.step(new Map([["x", x]]))).get("y")!.data).toEqual(Float32Array.of(3, 4));
    await program.dispose();
  });
});

describe("outputs", () => {
  test("may be feeds, constants, or named twice, and never share the caller's memory", async () => {
    const nodes = [node("Identity", ["x"], ["y"]), node("Relu", ["y"], ["z"])];
    const values = {
      inputs: { x: square },
      constants: { w },
      made: { y: square, z: square },
      outputs: ["x", "w", "y", "z", "z"],
    };
    for (const backend of ["wasm", "cpu"]) {
      await tf.setBackend(backend);
      const before = tf.memory().numTensors;
      const program = await tfjsEngine(tf, backend).load(graphOf(nodes, values));
      for (let round = 0; round < 3; round++) {
        const results = await program.step(new Map([["x", x]]));
        for (const name of ["x", "y", "z"]) expect(results.get(name)!.data).toEqual(x.data);
        expect(results.get("w")!.data).toEqual(w.data);
        (results.get("x")!.data as Float32Array).fill(0);
        (results.get("w")!.data as Float32Array).fill(0);
      }
      await program.dispose();
      expect(tf.memory().numTensors).toBe(before);
    }
  });
  test("int64 comes back as BigInt64Array, exactly", async () => {
    const long: Static = { dtype: "int64", shape: [2] };
    const graph = graphOf([node("Neg", ["x"], ["y"])], {
      inputs: { x: long },
      made: { y: long },
      outputs: ["y"],
    });
    const program = await tfjsEngine(tf, "wasm").load(graph);
    const results = await program.step(new Map([["x", i64([2], [2 ** 31 - 1, -5])]]));
    expect(results.get("y")!.data).toEqual(BigInt64Array.of(-2147483647n, 5n));
    await program.dispose();
  });
});

describe("feeds", () => {
  const graph = graphOf([node("Neg", ["x"], ["y"])], {
    inputs: { x: square },
    made: { y: square },
    outputs: ["y"],
  });
  test("a missing one, a wrong shape and a wrong dtype are named", async () => {
    const program = await tfjsEngine(tf, "wasm").load(graph);
    await expect(program.step(new Map())).rejects.toThrow(/feed x: expected float32\[2,2\], got nothing/);
    await expect(program.step(new Map([["x", f32([4], [1, 2, 3, 4])]]))).rejects.toThrow(/got float32\[4\]/);
    await expect(program.step(new Map([["x", i64([2, 2], [1, 2, 3, 4])]]))).rejects.toThrow(
      /got int64\[2,2\]/,
    );
    await program.dispose();
    await expect(program.step(new Map([["x", x]]))).rejects.toThrow(/dispose/);
  });
  test("an int64 beyond 32 bits is refused with its place", async () => {
    const long: Static = { dtype: "int64", shape: [2] };
    const program = await tfjsEngine(tf, "wasm").load(
      graphOf([node("Neg", ["x"], ["y"])], { inputs: { x: long }, made: { y: long }, outputs: ["y"] }),
    );
    const before = tf.memory().numTensors;
    await expect(program.step(new Map([["x", i64([2], [0, 2 ** 31])]]))).rejects.toThrow(
      /x\[1\].*2147483648/,
    );
    expect(tf.memory().numTensors).toBe(before);
    await program.dispose();
  });
});

describe("memory", () => {
  test("a value is freed at its last use: a long chain holds two tensors at most", async () => {
    const names = Array.from({ length: 50 }, (_, i) => `v${i}`);
    const nodes = names.map((name, i) => node("Neg", [i === 0 ? "x" : names[i - 1]!], [name]));
    const made = Object.fromEntries(names.map((name) => [name, square]));
    const graph = graphOf(nodes, { inputs: { x: square }, made, outputs: ["v49"] });
    let most = 0;
    const watched = {
      ...tf,
      neg: (t: Parameters<typeof tf.neg>[0]) => {
        const result = tf.neg(t);
        most = Math.max(most, tf.memory().numTensors);
        return result;
      },
    } as typeof tf;
    const before = tf.memory().numTensors;
    const program = await tfjsEngine(watched, "wasm").load(graph);
    await program.step(new Map([["x", x]]));
    expect(most - before).toBeLessThanOrEqual(2);
    await program.dispose();
  });
});
