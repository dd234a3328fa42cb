import type { Graph, Node } from "@tutti/graph/ir";
import { readsOf } from "@tutti/graph/prune";

/** Who makes a value of a graph and who reads it; for a file's graph and a traced one alike. */
export type Wires = {
  maker(name: string): Node | undefined;
  /** The node that alone reads the value, once; undefined where anything else does too. */
  follower(name: string): Node | undefined;
};

export function wiresOf({ nodes, outputs }: Pick<Graph, "nodes" | "outputs">): Wires {
  const makers = new Map<string, Node>();
  const readers = new Map<string, (Node | "other")[]>();
  const note = (name: string, reader: Node | "other") => {
    const known = readers.get(name);
    if (known) known.push(reader);
    else readers.set(name, [reader]);
  };
  for (const node of nodes) {
    for (const name of node.outputs) makers.set(name, node);
    // Behind the node's own inputs stand what graphs inside it read of this one.
    const own = node.inputs.filter((name) => name !== "");
    for (const name of own) note(name, node);
    for (const name of readsOf(node).slice(own.length)) note(name, "other");
  }
  for (const { name } of outputs) note(name, "other");
  return {
    maker: (name) => makers.get(name),
    follower(name) {
      const [only, another] = readers.get(name) ?? [];
      return another === undefined && only !== "other" ? only : undefined;
    },
  };
}

/** Operator and domain in one word: `MatMul`, `com.microsoft::FusedMatMul`. */
export function opOf({ op, domain }: Pick<Node, "op" | "domain">): string {
  return domain === "" || domain === "ai.onnx" ? op : `${domain}::${op}`;
}
