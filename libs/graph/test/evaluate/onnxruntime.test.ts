import fc from "fast-check";
import * as ort from "onnxruntime-node";
import { describe, expect, test } from "vitest";
import { onnxruntimeEngine } from "../../src/engines/onnxruntime/engine.ts";
import { evaluateNode } from "../../src/evaluate/evaluate.ts";
import { inferNode } from "../../src/infer/infer.ts";
import type { Graph, Tensor } from "../../src/ir.ts";
import { trace } from "../../src/trace.ts";
import { node, type OneNode } from "../arbitrary.ts";
import { expectTensor } from "../compare.ts";
import { runs } from "../runs.ts";
import { CASES } from "./cases.ts";

/**
 * onnxruntime as oracle: for random shapes, values and attributes of every operator, infer must say the dtype
 * and shape that onnxruntime returns, and evaluate its values.
 */
describe("infer and evaluate agree with onnxruntime", () => {
  test.each(Object.entries(CASES))("%s", async (_, { arbitrary, opset = 17, absolute = 1e-5 }) => {
    await fc.assert(
      fc.asyncProperty(arbitrary, (item) => agree(item, { opset, absolute })),
      { numRuns: runs(9) },
    );
  });

  test("the comparison itself can fail", async () => {
    const x: Tensor = { dtype: "float32", shape: [2], data: Float32Array.of(1, 2) };
    const wrong = { node: node("Relu", 1), feeds: [x] };
    const run = agree(wrong, { opset: 17, absolute: 1e-5, spoil: true });
    await expect(run).rejects.toThrow(/y0\[0\] is 2, expected 1/);
  });
});

type Options = { opset: number; absolute: number; spoil?: boolean };

async function agree(item: OneNode, { opset, absolute, spoil }: Options): Promise<void> {
  const { node } = item;
  const names = node.inputs.filter((name) => name !== "");
  const values = new Map(names.map((name, i) => [name, item.feeds[i]!]));
  const constant = (name: string) => values.get(name);
  const statics = inferNode(node, { opset, constant, static: (name) => values.get(name)! });
  const results = evaluateNode(node, { opset, constant });
  const expected = await runNode(item, opset);
  for (const [i, name] of node.outputs.entries()) {
    const want = expected.get(name)!;
    expect({ dtype: statics[i]!.dtype, shape: statics[i]!.shape }).toEqual({
      dtype: want.dtype,
      shape: [...want.shape],
    });
    const got = spoil ? { ...results[i]!, data: Float32Array.of(2, 2) } : results[i];
    expectTensor(got, want, { what: name, absolute });
  }
}

/**
 * The node alone in a graph. Inputs that onnxruntime wants constant (shapes, axes) must not be fed, so all
 * are initializers but the first, which stops it from folding the graph away.
 */
async function runNode({ node, feeds }: OneNode, opset: number) {
  const [first, ...rest] = node.inputs.filter((name) => name !== "");
  const input = { name: first!, dtype: feeds[0]!.dtype, shape: feeds[0]!.shape };
  const initializers = new Map(rest.map((name, i) => [name, feeds[i + 1]!]));
  const outputs = node.outputs.map((name) => ({ name, dtype: "float32" as const, shape: null }));
  const graph: Graph = { name: "one", opset, inputs: [input], outputs, initializers, nodes: [node] };
  const traced = SHAPED_BY_FIRST.has(node.op) ? undefined : trace(graph);
  const program = await onnxruntimeEngine(ort, QUIET).load(
    traced ?? { ...graph, outputs: typed(graph, feeds), statics: new Map([[first!, feeds[0]!]]) },
  );
  try {
    return await program.step(new Map([[first!, feeds[0]!]]));
  } finally {
    await program.dispose();
  }
}

/** Only errors: it warns where a declared output shape turns out otherwise. */
const QUIET = { session: { logSeverityLevel: 3 as const } };

/** Operators whose output shape hangs on the values of input 0: those cannot be traced while it is fed. */
const SHAPED_BY_FIRST = new Set(["Range", "ConstantOfShape", "NonZero"]);

function typed(graph: Graph, feeds: readonly Tensor[]) {
  const values = new Map(graph.nodes[0]!.inputs.map((name, i) => [name, feeds[i]!]));
  const known = {
    opset: graph.opset,
    constant: (n: string) => values.get(n),
    static: (n: string) => values.get(n)!,
  };
  return inferNode(graph.nodes[0]!, known).map((info, i) => ({
    name: graph.nodes[0]!.outputs[i]!,
    ...info,
    shape: null,
  }));
}
