import { expansionOf } from "./expand/rules.ts";
import { ruleOf } from "./gradient/rules.ts";
import { type DType, type Graph, type Node, sizeOf, type TracedGraph, type ValueInfo } from "./ir.ts";
import { bytesOf } from "./memory.ts";
import { readsOf } from "./prune.ts";
import type { Model } from "./read.ts";
import { describe } from "./site.ts";

/** What a model file holds; plain data, as `tutti graph inspect --json` prints it. */
export type Inspection = {
  readonly name: string;
  readonly producer: string;
  readonly irVersion: number;
  /** Version of the standard operator set. */
  readonly opset: number;
  /** Versions of the operator sets of other domains. */
  readonly domains: Readonly<Record<string, number>>;
  readonly inputs: readonly ValueInfo[];
  readonly outputs: readonly ValueInfo[];
  readonly nodes: number;
  /** How often each operator stands in the graph, inner graphs included, the most frequent first. */
  readonly operators: Readonly<Record<string, number>>;
  /** Elements of weights in floats, or in the integers that quantised weights are kept in. */
  readonly parameters: number;
  /** Bytes of all constant tensors, as they are in memory. */
  readonly bytes: number;
  /** Constant tensors by type. */
  readonly dtypes: Readonly<Partial<Record<DType, { readonly tensors: number; readonly elements: number }>>>;
  readonly quantised: Quantised;
};

export type Quantised = {
  /** Operators that stand for quantised weights or values; empty where nothing is quantised. */
  readonly operators: readonly string[];
  /**
   * Values are rounded to levels as the model runs: a loss is then a staircase, and its gradient passes
   * straight through the steps (Bengio et al. 2013, arXiv 1308.3432).
   */
  readonly values: boolean;
};

/** What there is to know of a model without binding its sizes. */
export function inspect({ graph, proto }: Model): Inspection {
  const graphs = withInner(graph);
  const nodes = graphs.flatMap((one) => one.nodes);
  const tensors = graphs.flatMap((one) => [...one.initializers.values()]);
  const dtypes: Partial<Record<DType, { tensors: number; elements: number }>> = {};
  for (const { dtype, shape } of tensors) {
    const held = dtypes[dtype] ?? { tensors: 0, elements: 0 };
    dtypes[dtype] = { tensors: held.tensors + 1, elements: held.elements + sizeOf(shape) };
  }
  const others = proto.opsetImport.filter(({ domain }) => domain !== "" && domain !== "ai.onnx");
  return {
    name: graph.name,
    producer: [proto.producerName, proto.producerVersion].filter(Boolean).join(" "),
    irVersion: Number(proto.irVersion),
    opset: graph.opset,
    domains: Object.fromEntries(others.map(({ domain, version }) => [domain, Number(version)])),
    inputs: graph.inputs,
    outputs: graph.outputs,
    nodes: nodes.length,
    operators: counted(nodes.map(operatorOf)),
    parameters: [...WEIGHTS].reduce((sum, dtype) => sum + (dtypes[dtype]?.elements ?? 0), 0),
    bytes: tensors.reduce((sum, tensor) => sum + bytesOf(tensor), 0),
    dtypes,
    quantised: quantisedOf(graphs),
  };
}

/** Indices and shapes are int64 and int32; weights are anything else. */
const WEIGHTS: ReadonlySet<DType> = new Set<DType>(["float32", "float64", "float16", "uint8", "int8"]);

/** `Quantised.values` of a graph alone. */
export function roundsToLevels(graph: Graph): boolean {
  return quantisedOf(withInner(graph)).values;
}

function quantisedOf(graphs: readonly Graph[]): Quantised {
  const operators = new Set<string>();
  let values = false;
  for (const { nodes, initializers } of graphs) {
    for (const node of nodes.filter(({ op }) => QUANTISED.test(op))) {
      operators.add(operatorOf(node));
      values ||= ROUNDING.test(node.op) && !initializers.has(node.inputs[0] ?? "");
    }
  }
  return { operators: [...operators].sort(), values };
}

const QUANTISED = /[Qq]uantize|^QLinear|Integer|NBits|^QGemm|^QAttention/;
/** Of those, the ones that make levels as the model runs; integer products alone read what these made. */
const ROUNDING = /^(Dynamic)?QuantizeLinear$|^QLinear|^DynamicQuantize|^QGemm|^QAttention/;

/** A node that a gradient would have to pass and cannot. */
export type Barrier = { readonly node: string; readonly operator: string; readonly because: string };

/**
 * Nodes between the graph's inputs and its outputs that make floats of floats and have neither a gradient
 * rule nor an expansion: what lies before them cannot be trained. A rule may still refuse an attribute;
 * `differentiate` has the last word.
 */
export function barriers(graph: TracedGraph): readonly Barrier[] {
  const computed = new Set(graph.inputs.map(({ name }) => name));
  const isFloat = (name: string) => FLOATS.has(graph.statics.get(name)?.dtype ?? "bool");
  return graph.nodes.flatMap((node) => {
    const reads = readsOf(node).filter((name) => computed.has(name));
    if (reads.length === 0) return [];
    for (const name of node.outputs) computed.add(name);
    if (ruleOf(node) || expansionOf(node) || !reads.some(isFloat) || !node.outputs.some(isFloat)) return [];
    const because = "no gradient rule and no expansion";
    return [{ node: describe(node, graph.opset), operator: operatorOf(node), because }];
  });
}

const FLOATS: ReadonlySet<DType> = new Set<DType>(["float32", "float64", "float16"]);

/** "Gelu", or "com.microsoft::Gelu" for an operator outside the standard. */
function operatorOf({ domain, op }: Node): string {
  return domain === "" ? op : `${domain}::${op}`;
}

function counted(names: readonly string[]): Readonly<Record<string, number>> {
  const counts = new Map<string, number>();
  for (const name of names) counts.set(name, (counts.get(name) ?? 0) + 1);
  return Object.fromEntries([...counts].sort(([a, n], [b, m]) => m - n || (a < b ? -1 : 1)));
}

function withInner(graph: Graph): readonly Graph[] {
  const inner = graph.nodes.flatMap(({ attributes }) =>
    [...attributes.values()].flatMap((one) => (one.kind === "graph" ? withInner(one.value) : [])),
  );
  return [graph, ...inner];
}
