import fc from "fast-check";
import { expect, test } from "vitest";
import { tfjsEngine } from "../../src/engines/tfjs/engine.ts";
import { type Node, type Static, sizeOf, type Tensor, type TracedGraph } from "../../src/ir.ts";
import { runs } from "../runs.ts";
import { dim } from "./arbitrary.ts";
import { BACKENDS, expectClose, f32, tf } from "./harness.ts";

// Reshape, and a Transpose where only axes of size 1 move, give another shape to the same memory, and wasm's
// products set themselves up once per memory of their right operand (docs/decisions/0010). Whatever shapes
// one memory is multiplied in, in whatever order, each product must be its own.

/** One use of the shared value `w` as a right operand, in a shape of its own. */
type Use = { op: "MatMul" | "Gemm" | "ReduceSum"; shape: readonly [number, number] };

const node = (op: string, inputs: string[], output: string): Node => ({
  op,
  domain: "",
  name: output,
  inputs,
  outputs: [output],
  attributes: new Map(op === "ReduceSum" ? [["axes", { kind: "ints", value: [0] }]] : []),
  metadata: new Map(),
});

const wave = (shape: readonly number[], phase: number): Tensor =>
  f32(
    shape,
    Array.from({ length: sizeOf(shape) }, (_, i) => Math.sin(i * 1.7 + phase)),
  );

/** y_i = x_i · reshape(w) for each use, or the sum of reshape(w) over its first axis. */
function graphOf(uses: readonly Use[], w: Tensor, held: boolean) {
  const feeds = new Map<string, Tensor>();
  const wanted = new Map<string, Tensor>();
  const statics = new Map<string, Static>([["w", w]]);
  const nodes = uses.flatMap(({ op, shape }, i) => {
    const k = shape[0];
    const reduces = op === "ReduceSum";
    const x = reduces ? f32([1, k], new Float32Array(k).fill(1)) : wave([2, k], i);
    const y = product(x, { ...w, shape });
    statics.set(`w${i}`, { dtype: "float32", shape });
    statics.set(`y${i}`, { dtype: "float32", shape: y.shape });
    wanted.set(`y${i}`, y);
    const reshape = node("Reshape", ["w", "unread"], `w${i}`);
    if (reduces) return [reshape, node(op, [`w${i}`], `y${i}`)];
    feeds.set(`x${i}`, x);
    statics.set(`x${i}`, x);
    return [reshape, node(op, [`x${i}`, `w${i}`], `y${i}`)];
  });
  if (!held) feeds.set("w", w);
  const info = (name: string) => ({ name, dtype: "float32" as const, shape: statics.get(name)!.shape });
  const graph: TracedGraph = {
    name: "shared",
    opset: 11,
    inputs: [...feeds.keys()].map(info),
    outputs: [...wanted.keys()].map(info),
    initializers: new Map(held ? [["w", w]] : []),
    nodes,
    statics,
  };
  return { graph, feeds, wanted };
}

/** The obvious product of two matrices. */
function product(a: Tensor, b: Tensor): Tensor {
  const [m, k, n] = [a.shape[0]!, a.shape[1]!, b.shape[1]!];
  const at = (i: number): number => {
    let sum = 0;
    for (let j = 0; j < k; j++)
      sum += Number(a.data[Math.floor(i / n) * k + j]) * Number(b.data[j * n + (i % n)]);
    return sum;
  };
  return f32(
    [m, n],
    Array.from({ length: m * n }, (_, i) => at(i)),
  );
}

async function each(uses: readonly Use[], w: Tensor, held: boolean): Promise<void> {
  const { graph, feeds, wanted } = graphOf(uses, w, held);
  for (const backend of BACKENDS) {
    await tf.setBackend(backend);
    const before = tf.memory().numTensors;
    const program = await tfjsEngine(tf, backend).load(graph);
    // Twice: what the first step set up, the second finds.
    for (const time of ["first", "second"]) {
      const got = await program.step(feeds);
      const what = `${backend} ${time} ${uses.map(({ op, shape }) => `${op} [${shape}]`)}`;
      for (const [name, tensor] of wanted) expectClose(got.get(name)!, tensor, `${what} ${name}`);
    }
    await program.dispose();
    expect(tf.memory().numTensors, "tensors after dispose").toBe(before);
  }
}

test("a column, then the same memory as a row", () =>
  each(
    [
      { op: "MatMul", shape: [3, 1] },
      { op: "MatMul", shape: [1, 3] },
    ],
    wave([3, 1], 0),
    false,
  ));

test("a matrix, then reshaped, then as it was", () =>
  each(
    [
      { op: "MatMul", shape: [4, 6] },
      { op: "MatMul", shape: [6, 4] },
      { op: "MatMul", shape: [4, 6] },
    ],
    wave([4, 6], 0),
    false,
  ));

test("any shapes, operators and order, fed or constant", () => {
  const cases = fc.tuple(dim, dim, dim).chain(([a, b, c]) => {
    const size = a * b * c;
    const shape = fc
      .constantFrom(1, a, b, c, a * b, b * c, a * c, size)
      .map((k): [number, number] => [k, size / k]);
    const op = fc.constantFrom("MatMul" as const, "Gemm" as const, "ReduceSum" as const);
    const uses = fc.array(fc.record({ op, shape }), { minLength: 2, maxLength: 4 });
    return fc.record({ uses, w: fc.constant(wave([size], 0)), held: fc.boolean() });
  });
  return fc.assert(
    fc.asyncProperty(cases, ({ uses, w, held }) => each(uses, w, held)),
    { numRuns: runs(25) },
  );
});

/** Steps through `nodes` fed `values`; `made` are the shapes of what the nodes make. */
async function once(nodes: Node[], values: Record<string, Tensor>, made: Record<string, number[]>) {
  const info = (name: string, shape: readonly number[]) => ({ name, dtype: "float32" as const, shape });
  const feeds = Object.entries(values);
  const outputs = Object.entries(made).map(([name, shape]) => info(name, shape));
  const inputs = feeds.map(([name, { shape }]) => info(name, shape));
  const statics = new Map([...inputs, ...outputs].map((it) => [it.name, it]));
  const graph = { name: "once", opset: 13, inputs, outputs, initializers: new Map(), nodes, statics };
  const program = await tfjsEngine(tf, "wasm").load(graph);
  const got = await program.step(new Map(feeds));
  await program.dispose();
  return got;
}

test("a value whose transpose is only a new name", async () => {
  const [w, x, v] = [wave([5, 1], 0), wave([2, 5], 1), wave([3, 1], 2)];
  const nodes = [
    node("Transpose", ["w"], "t"),
    node("MatMul", ["x", "w"], "y"),
    node("MatMul", ["v", "t"], "z"),
  ];
  const got = await once(nodes, { w, x, v }, { t: [1, 5], y: [2, 1], z: [3, 5] });
  expectClose(got.get("y")!, product(x, w), "y");
  expectClose(got.get("z")!, product(v, { ...w, shape: [1, 5] }), "z");
});

test("a left operand that becomes the right one where the product is done the other way round", async () => {
  const [x, w, v] = [wave([1, 64], 0), wave([64, 256], 1), wave([3, 1], 2)];
  const nodes = [node("MatMul", ["v", "x"], "z"), node("MatMul", ["x", "w"], "y")];
  for (const order of [nodes, nodes.toReversed()]) {
    const got = await once(order, { w, x, v }, { y: [1, 256], z: [3, 64] });
    expectClose(got.get("y")!, product(x, w), "y");
    expectClose(got.get("z")!, product(v, x), "z");
  }
});
