import { assert } from "@tutti/foundation/check";
import { type Builder, builderOn } from "../builder.ts";
import type { Node, TracedGraph } from "../ir.ts";
import { LIMITS } from "../limits.ts";
import { opsOn } from "../ops.ts";
import { Site } from "../site.ts";
import { expansionOf } from "./rules.ts";

export type ExpandOptions = {
  /** Which nodes to replace; those without an expansion stay as they are. */
  readonly wanted: (node: Node) => boolean;
  /** Values that keep their names besides the graph's outputs. */
  readonly keep?: Iterable<string>;
};

/**
 * The graph with every wanted node said in simpler operators, and these again until none is wanted. A graph
 * without any is returned as it is.
 */
export function expanded(graph: TracedGraph, { wanted, keep = [] }: ExpandOptions): TracedGraph {
  const due = (node: Node) => wanted(node) && expansionOf(node) !== undefined;
  const kept = new Set([...keep, ...graph.outputs.map(({ name }) => name)]);
  let current = graph;
  for (let depth = 0; current.nodes.some(due); depth++) {
    assert(depth < LIMITS.depth, "an expansion leads to simpler operators, not back to itself");
    current = pass(current, due, kept);
  }
  return current;
}

function pass(graph: TracedGraph, due: (node: Node) => boolean, kept: ReadonlySet<string>): TracedGraph {
  const build = builderOn({ ...graph, nodes: [], outputs: [] });
  const renamed = new Map<string, string>();
  for (const written of graph.nodes) {
    const node = { ...written, inputs: written.inputs.map((name) => renamed.get(name) ?? name) };
    if (due(node)) replace(node, { build, renamed, kept });
    else build.place(node);
  }
  for (const { name } of graph.outputs) build.output(name);
  return build.finish();
}

type Pass = {
  readonly build: Builder;
  readonly renamed: Map<string, string>;
  readonly kept: ReadonlySet<string>;
};

/** Emits a node's expansion; whoever read the node's outputs will read what took their place. */
function replace(node: Node, { build, renamed, kept }: Pass): void {
  const results = expansionOf(node)!(new Site(node, build.known), opsOn(build));
  for (const [index, output] of node.outputs.entries()) {
    if (output === "") continue;
    const result = results[index];
    const { dtype, shape } = build.static(output);
    const got = result === undefined ? undefined : build.static(result);
    assert(
      got?.dtype === dtype && `${got.shape}` === `${shape}`,
      `expansion of ${node.op}: output ${index} is ${got?.dtype} [${got?.shape}], not ${dtype} [${shape}]`,
    );
    if (kept.has(output)) build.place(identity(result!, output));
    else renamed.set(output, result!);
  }
}

const identity = (from: string, to: string): Node => ({
  ...{ op: "Identity", domain: "", name: to, inputs: [from], outputs: [to] },
  ...{ attributes: new Map(), metadata: new Map() },
});
