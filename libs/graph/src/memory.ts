import { type Node, type Static, sizeOf, type TracedGraph } from "./ir.ts";
import { readsOf } from "./prune.ts";
import { bytesPer } from "./tensor.ts";

/**
 * Bytes of the values that are alive at the worst node of one run, in the graph's own order: inputs from the
 * beginning, what nodes make until its last reader, outputs to the end. Constants are apart
 * (`constantBytes`), and so is what a kernel needs for itself while it runs. A reshape is its source in
 * another shape, as it is in every engine, and costs nothing.
 */
export function peakBytes(graph: TracedGraph): number {
  return liveBytes(graph).reduce((most, bytes) => Math.max(most, bytes), 0);
}

/** The same for each node: bytes alive while it runs, what it reads and makes included. */
export function liveBytes(graph: TracedGraph): readonly number[] {
  const { rootOf, held } = rootsOf(graph);
  const last = lastUses(graph, rootOf);
  const ends = new Map<number, number>();
  let live = 0;
  const begin = (name: string) => {
    const bytes = held.get(name) ?? 0;
    const end = last.get(name);
    live += bytes;
    if (end !== undefined) ends.set(end, (ends.get(end) ?? 0) + bytes);
  };
  for (const { name } of graph.inputs) begin(name);
  return graph.nodes.map((node, at) => {
    for (const name of node.outputs) if (rootOf.get(name) === name) begin(name);
    const during = live;
    live -= ends.get(at) ?? 0;
    return during;
  });
}

/** Bytes of a graph's initializers. */
export function constantBytes(graph: TracedGraph): number {
  return [...graph.initializers.values()].reduce((sum, tensor) => sum + bytesOf(tensor), 0);
}

export function bytesOf({ dtype, shape }: Static): number {
  return sizeOf(shape) * bytesPer(dtype);
}

/** Operators whose output is their first input's memory in another shape. */
const RESHAPES: ReadonlySet<string> = new Set(["Reshape", "Flatten", "Squeeze", "Unsqueeze", "Identity"]);

type Roots = {
  /** The value whose memory a value is; constants, and what depends on them alone, have none. */
  readonly rootOf: ReadonlyMap<string, string>;
  /** Bytes by root. */
  readonly held: ReadonlyMap<string, number>;
};

function rootsOf(graph: TracedGraph): Roots {
  const rootOf = new Map(graph.inputs.map(({ name }) => [name, name]));
  for (const node of graph.nodes) {
    // An engine folds what reads constants alone when it loads, whatever its size.
    const fed = readsOf(node).some((name) => rootOf.has(name)) || !isPure(node);
    if (!fed) continue;
    const source = isReshape(node) ? rootOf.get(node.inputs[0]!) : undefined;
    for (const name of node.outputs) if (name !== "") rootOf.set(name, source ?? name);
  }
  const roots = new Set(rootOf.values());
  return { rootOf, held: new Map([...roots].map((name) => [name, bytesOf(graph.statics.get(name)!)])) };
}

/** Whether equal inputs give equal outputs, so that a node may be folded or run again. */
export function isPure({ op }: Node): boolean {
  return !op.startsWith("Random") && op !== "Bernoulli" && op !== "Multinomial" && op !== "Dropout";
}

function isReshape({ op, domain }: Node): boolean {
  return domain === "" && RESHAPES.has(op);
}

/** Index of the last node that touches a memory; none for what lives to the end. */
function lastUses(graph: TracedGraph, rootOf: ReadonlyMap<string, string>): ReadonlyMap<string, number> {
  const last = new Map<string, number>();
  for (const [at, node] of graph.nodes.entries()) {
    for (const name of [...readsOf(node), ...node.outputs]) {
      const root = rootOf.get(name);
      if (root !== undefined) last.set(root, at);
    }
  }
  for (const { name } of graph.outputs) last.delete(rootOf.get(name) ?? "");
  return last;
}
