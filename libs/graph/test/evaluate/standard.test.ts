import { describe, expect, test } from "vitest";
import { evaluate, evaluates } from "../../src/evaluate/evaluate.ts";
import { expanded } from "../../src/expand/expand.ts";
import { knownOperators } from "../../src/infer/infer.ts";
import type { Graph, Tensor, TracedGraph } from "../../src/ir.ts";
import { type Model, read } from "../../src/read.ts";
import { trace } from "../../src/trace.ts";
import { type BackendCase, backendCases } from "../backend-cases.ts";
import { expectTensor } from "../compare.ts";

const KNOWN = new Set(knownOperators().map(({ domain, op }) => `${domain}::${op}`));
const isKnown = ({ domain, op }: Graph["nodes"][number]) => KNOWN.has(`${domain}::${op}`);

/**
 * The ONNX standard's own cases, with expectations written by its reference implementation. Every case whose
 * operators we know must trace to the standard's shapes and evaluate to the standard's values.
 */
describe("ONNX backend node tests", () => {
  const cases = backendCases();
  const runnable = cases.flatMap((item) => {
    const model = opened(item);
    return model && everyNode(model.graph, isKnown) ? [{ item, graph: model.graph }] : [];
  });

  test.skipIf(cases.length === 0)(`${runnable.length} of ${cases.length} cases are ours to run`, () => {
    expect(runnable.length).toBeGreaterThanOrEqual(KNOWN_CASES);
  });

  test.each(runnable.map(({ item, graph }) => [item.name, item, graph] as const))("%s", (_, item, graph) => {
    const feeds = new Map(graph.inputs.map(({ name }, i) => [name, item.inputs[i]!]));
    // What has no evaluation of its own is evaluated as its expansion.
    const traced = expanded(traced_(graph, feeds), { wanted: (node) => !evaluates(node) });
    expect(everyNode(traced, evaluates)).toBe(true);
    const results = evaluate(traced, feeds);
    for (const [i, { name, dtype, shape }] of traced.outputs.entries()) {
      const expected = item.outputs[i]!;
      expect({ name, dtype, shape }).toEqual({ name, dtype: expected.dtype, shape: expected.shape });
      expectTensor(results.get(name), expected, { what: name, absolute: 1e-5, relative: 1e-3 });
    }
  });
});

/** Cases whose operators are known today; only ever raised. */
const KNOWN_CASES = 815;

/**
 * The model, or nothing for what `read` rightly does not take: sequences, functions, exotic dtypes,
 * opset 1.
 */
function opened(item: BackendCase): Model | undefined {
  try {
    const model = read(item.model);
    const fed =
      item.inputs.length >= model.graph.inputs.length && item.outputs.length === model.graph.outputs.length;
    return fed && !OLD_BROADCAST.test(item.name) && !UNROUNDED.test(item.name) ? model : undefined;
  } catch {
    return undefined;
  }
}

/** Operator set 6: slopes stand for channels without a `broadcast` attribute that would tell. */
const OLD_BROADCAST = /^test_PReLU_\dd_multiparam$/;

/** The reference aligns corners of a size not yet rounded down; onnxruntime and we those of the output. */
const UNROUNDED = /^test_resize_downsample_scales_(cubic|linear)_align_corners$/;

function everyNode(graph: Graph, holds: (node: Graph["nodes"][number]) => boolean): boolean {
  return graph.nodes.every((node) => {
    const inner = [...node.attributes.values()].flatMap((a) => (a.kind === "graph" ? [a.value] : []));
    return (node.op === "If" || holds(node)) && inner.every((branch) => everyNode(branch, holds));
  });
}

/** Traced with inputs open; cases about data-dependent shapes with their inputs as constants. */
function traced_(graph: Graph, feeds: ReadonlyMap<string, Tensor>): TracedGraph {
  const shapes = Object.fromEntries([...feeds].map(([name, { shape }]) => [name, shape]));
  try {
    return trace(graph, { shapes });
  } catch (error) {
    if (!/known before the run/.test(String(error))) throw error;
    return trace({ ...graph, inputs: [], initializers: new Map([...graph.initializers, ...feeds]) });
  }
}
