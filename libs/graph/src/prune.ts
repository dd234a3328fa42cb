import type { Graph, Node, TracedGraph } from "./ir.ts";

/** The same graph with only what its outputs need. Inputs stay, so that whoever feeds it need not know. */
export function live(graph: TracedGraph): TracedGraph {
  const needed = new Set(graph.outputs.map(({ name }) => name));
  const nodes: Node[] = [];
  for (const node of graph.nodes.toReversed()) {
    if (!node.outputs.some((name) => needed.has(name))) continue;
    nodes.push(node);
    for (const name of readsOf(node)) needed.add(name);
  }
  const initializers = new Map([...graph.initializers].filter(([name]) => needed.has(name)));
  const held = new Set([
    ...graph.inputs.map(({ name }) => name),
    ...initializers.keys(),
    ...nodes.flatMap(({ outputs }) => outputs),
  ]);
  const statics = new Map([...graph.statics].filter(([name]) => held.has(name)));
  return { ...graph, nodes: nodes.reverse(), initializers, statics };
}

/** The graph with the given values among its outputs, so that no rewriting on the way drops one. */
export function withOutputs(graph: TracedGraph, names: readonly string[]): TracedGraph {
  const missing = new Set(names.filter((name) => !graph.outputs.some((output) => output.name === name)));
  const outputs = [...missing].map((name) => ({ name, ...graph.statics.get(name)! }));
  return { ...graph, outputs: [...graph.outputs, ...outputs] };
}

/** Values a node reads, those that its inner graphs read from outside included. */
export function readsOf(node: Node): readonly string[] {
  return [...node.inputs, ...innerReadsOf(node)].filter((name) => name !== "");
}

/** Values of the graph around it that a node's inner graphs read. */
export function innerReadsOf({ attributes }: Pick<Node, "attributes">): readonly string[] {
  return [...attributes.values()].flatMap((attribute) =>
    attribute.kind === "graph" ? freeNames(attribute.value) : [],
  );
}

/** Names an inner graph takes from around it, its own definitions taken off. */
function freeNames(graph: Graph): readonly string[] {
  const own = new Set([...graph.initializers.keys(), ...graph.inputs.map(({ name }) => name)]);
  for (const node of graph.nodes) for (const name of node.outputs) own.add(name);
  const all = [...graph.nodes.flatMap(readsOf), ...graph.outputs.map(({ name }) => name)];
  return all.filter((name) => !own.has(name));
}
