import type { DType, Node, TracedGraph } from "../ir.ts";
import type { Ops } from "../ops.ts";

/** Operators that make integers which stand for dequantised values, out of such integers. */
const PRODUCTS: ReadonlySet<string> = new Set(["MatMulInteger", "ConvInteger", "QGemm"]);

/** Levels and sums of their products: what a quantised model holds dequantised values in. */
const LEVELS: ReadonlySet<DType> = new Set<DType>(["uint8", "int8", "int32"]);

/**
 * Which outputs of a node a gradient can come back from, given what it can reach: floats, and integers that
 * stand for dequantised values. Those begin at a quantiser (gradient/quantise.ts) and stay what they are
 * through products of levels, through casts between integers, and through operators that keep the type (a
 * Reshape, a MaxPool, the Add of a bias). A cast of a float to an integer and an index are none.
 */
export function reached(graph: TracedGraph, node: Node, active: ReadonlySet<string>): readonly string[] {
  const dtype = (name: string) => graph.statics.get(name)?.dtype;
  const levels = new Set(node.inputs.filter((name) => active.has(name) && isLevel(graph, name)).map(dtype));
  const carries = (output: string) => {
    if (isFloat(graph, output)) return true;
    if (!isLevel(graph, output)) return false;
    if (node.op === "QuantizeLinear") return active.has(node.inputs[0]!);
    const product = PRODUCTS.has(node.op) || node.op.startsWith("QLinear") || node.op === "Cast";
    return levels.has(dtype(output)) || (product && levels.size > 0);
  };
  // Of a dynamic quantiser only the levels: its scale and zero point count as constants.
  if (node.op === "DynamicQuantizeLinear") return node.outputs.slice(0, 1);
  return node.outputs.filter(carries);
}

/**
 * The node as its rule sees it: integers that stand for dequantised values in float, as their gradients are,
 * and whatever meets them in the same type.
 */
export function inFloat(
  graph: TracedGraph,
  node: Node,
  { ops, active }: { ops: Ops; active: ReadonlySet<string> },
): Node {
  const dtype = (name: string) => graph.statics.get(name)?.dtype;
  const levels = new Set(node.inputs.filter((name) => active.has(name) && isLevel(graph, name)).map(dtype));
  if (levels.size === 0) return node;
  const float = (name: string) => (name !== "" && levels.has(dtype(name)) ? ops.cast(name, "float32") : name);
  return { ...node, inputs: node.inputs.map(float), outputs: node.outputs.map(float) };
}

export function isFloat(graph: TracedGraph, name: string): boolean {
  const dtype = graph.statics.get(name)?.dtype;
  return dtype === "float32" || dtype === "float64" || dtype === "float16";
}

function isLevel(graph: TracedGraph, name: string): boolean {
  const dtype = graph.statics.get(name)?.dtype;
  return dtype !== undefined && LEVELS.has(dtype);
}
