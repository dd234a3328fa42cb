import type { Graph, Node } from "@tutti/graph/ir";
import { innerReadsOf } from "@tutti/graph/prune";

/** What reads a value: a node's input, a graph inside a node, or the world outside as the graph's output. */
export type Reader = { readonly node: Node; readonly input: number } | "inner graph" | "graph output";

/** Who makes a value of a graph and who reads it; for a file's graph and a traced one alike. */
export type Wires = {
  maker(name: string): Node | undefined;
  readers(name: string): readonly Reader[];
  /** The node that alone reads the value, once; undefined where anything else does too. */
  follower(name: string): Node | undefined;
};

export function wiresOf({ nodes, outputs }: Pick<Graph, "nodes" | "outputs">): Wires {
  const makers = new Map<string, Node>();
  const readers = new Map<string, Reader[]>();
  const note = (name: string, reader: Reader) => {
    const known = readers.get(name);
    if (known) known.push(reader);
    else readers.set(name, [reader]);
  };
  for (const node of nodes) {
    for (const name of node.outputs) makers.set(name, node);
    for (const [input, name] of node.inputs.entries()) if (name !== "") note(name, { node, input });
    for (const name of innerReadsOf(node)) note(name, "inner graph");
  }
  for (const { name } of outputs) note(name, "graph output");
  const readersOf = (name: string) => readers.get(name) ?? [];
  return {
    maker: (name) => makers.get(name),
    readers: readersOf,
    follower(name) {
      const [only, another] = readersOf(name);
      return another === undefined && typeof only === "object" ? only.node : undefined;
    },
  };
}

/** Operator and domain in one word: `MatMul`, `com.microsoft::FusedMatMul`. */
export function opOf({ op, domain }: Pick<Node, "op" | "domain">): string {
  return domain === "" || domain === "ai.onnx" ? op : `${domain}::${op}`;
}
