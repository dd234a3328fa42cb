import { Fault } from "@tutti/foundation/fault";
import { inferNode } from "../infer/infer.ts";
import type { Graph, Node, Tensor, Tensors } from "../ir.ts";
import { operators } from "../operators.ts";
import { describe, Site } from "../site.ts";
import * as convolve from "./convolve.ts";
import * as elementwise from "./elementwise.ts";
import * as indexing from "./indexing.ts";
import * as linear from "./linear.ts";
import * as normalise from "./normalise.ts";
import * as quantise from "./quantise.ts";
import * as recurrent from "./recurrent.ts";
import * as reduce from "./reduce.ts";
import type { EvaluateRule } from "./rule.ts";
import * as shape from "./shape.ts";

/** Operators of the standard domain by their exports' names; Resize is inferred but not evaluated. */
const STANDARD: ReadonlyMap<string, EvaluateRule> = operators(
  convolve,
  elementwise,
  indexing,
  linear,
  normalise,
  quantise,
  recurrent,
  reduce,
  shape,
);
/** Those of onnxruntime's own that its optimiser and quantiser leave in files. */
const MICROSOFT: ReadonlyMap<string, EvaluateRule> = new Map<string, EvaluateRule>([
  ["Gelu", elementwise.Gelu],
  ["QuickGelu", elementwise.QuickGelu],
  ["MatMulNBits", quantise.MatMulNBits],
  ["QuantizeLinear", quantise.QuantizeLinear],
  ["DequantizeLinear", quantise.DequantizeLinear],
]);
const DOMAINS: ReadonlyMap<string, ReadonlyMap<string, EvaluateRule>> = new Map([
  ["", STANDARD],
  ["com.microsoft", MICROSOFT],
]);

/** Whether `evaluateNode` can compute the operator. */
export function evaluates(node: Pick<Node, "op" | "domain">): boolean {
  return DOMAINS.get(node.domain)?.has(node.op) ?? false;
}

export type Evaluation = { readonly opset: number; constant(name: string): Tensor | undefined };

/**
 * The outputs of one node whose inputs are all known: plain TypeScript, int64 exact, floats in doubles
 * until stored. infer runs first, so whatever does not fit is refused there, in the same words as in tracing.
 */
export function evaluateNode(node: Node, { opset, constant }: Evaluation): readonly Tensor[] {
  const rule = DOMAINS.get(node.domain)?.get(node.op);
  if (!rule) throw new Fault("unsupported", `evaluating ${describe(node, opset)}`);
  const lookup = (name: string) => {
    const tensor = constant(name);
    if (tensor) return tensor;
    throw new Fault("bad-input", `${describe(node, opset)}: ${name}`, { expected: "a known value" });
  };
  const known = { opset, static: lookup, constant };
  return rule(new Site(node, known), inferNode(node, known));
}

/** Runs a whole graph: the slow twin that engines are checked against. Returns the graph's outputs. */
export function evaluate(graph: Graph, feeds: Tensors): Tensors {
  const values = new Map<string, Tensor>([...graph.initializers, ...feeds]);
  const constant = (name: string) => values.get(name);
  for (const node of graph.nodes) {
    const results = evaluateNode(node, { opset: graph.opset, constant });
    for (const [i, name] of node.outputs.entries()) if (name !== "") values.set(name, results[i]!);
  }
  return new Map(graph.outputs.map(({ name }) => [name, values.get(name)!]));
}
