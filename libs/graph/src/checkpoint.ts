import { Fault } from "@tutti/foundation/fault";
import type { Node, Static, TracedGraph } from "./ir.ts";
import { bytesOf, isPure, peakBytes } from "./memory.ts";
import { readsOf } from "./prune.ts";

export type CheckpointOptions = {
  /** What `peakBytes` of the result may be. */
  readonly budgetBytes: number;
};

/** Into how many segments the forward pass is cut; √n of n layers is best where all are alike. */
const SEGMENTS: readonly number[] = [2, 3, 4, 5, 6, 8, 10, 12, 16, 20, 24, 32];

/**
 * A derived graph (of `differentiate`) that stays under a budget: values the backward pass reads are dropped
 * and computed again from those at the ends of segments, just before they are read (Chen et al. 2016, arXiv
 * 1604.06174, section 4). The gradients are the same bit for bit; the price is at most one more forward pass,
 * of which no more is computed again than the budget makes necessary. It serves engines that keep to the
 * graph's order (tfjs); onnxruntime merges equal nodes when it loads and so undoes it.
 * @throws Fault("unsupported") naming the least that can be reached, when that is over the budget.
 */
export function checkpointed(graph: TracedGraph, { budgetBytes }: CheckpointOptions): TracedGraph {
  const planned = peakBytes(graph);
  if (planned <= budgetBytes) return graph;
  const forward = forwardOf(graph);
  let least = planned;
  for (const cuts of cutsOf(graph, forward)) {
    const candidate = rewritten(graph, forward, cuts);
    const bytes = peakBytes(candidate);
    if (bytes <= budgetBytes) return candidate;
    least = Math.min(least, bytes);
  }
  throw new Fault("unsupported", `graph ${graph.name}: memory of a step`, {
    expected: `at most ${budgetBytes} bytes`,
    got: `at least ${least} bytes, computing again what can be`,
    todo: "Train with a smaller batch or shorter texts",
  });
}

/** Nodes that outputs other than gradients need, in order. */
function forwardOf(graph: TracedGraph): readonly Node[] {
  const needed = new Set(graph.outputs.map(({ name }) => name).filter((name) => !name.startsWith("grad.")));
  const forward: Node[] = [];
  for (const node of graph.nodes.toReversed()) {
    if (!node.outputs.some((name) => needed.has(name))) continue;
    for (const name of readsOf(node)) needed.add(name);
    forward.push(node);
  }
  return forward.reverse();
}

/**
 * Ways to cut the forward nodes, each a list of ends: segment s is [ends[s − 1], ends[s]), and what is after
 * the last end is kept, as the backward pass begins there. What the earliest segments made is kept longest,
 * so they may do; the ways come in the order of how much is computed again.
 */
function cutsOf(graph: TracedGraph, forward: readonly Node[]): readonly (readonly number[])[] {
  const crossing = crossings(graph, forward);
  const ways = new Map<string, readonly number[]>();
  for (const count of SEGMENTS.filter((segments) => segments <= forward.length)) {
    const ends = quietEnds(crossing, { count, length: forward.length });
    for (let used = 1; used <= ends.length; used++) ways.set(`${ends.slice(0, used)}`, ends.slice(0, used));
  }
  return [...ways.values()].sort((a, b) => a.at(-1)! - b.at(-1)! || a.length - b.length);
}

/** Bytes made before each place of the forward pass that are read after it. */
function crossings(graph: TracedGraph, forward: readonly Node[]): readonly number[] {
  const last = new Map<string, number>();
  for (const [at, node] of forward.entries()) for (const name of readsOf(node)) last.set(name, at);
  const change = new Float64Array(forward.length + 2);
  for (const [at, node] of forward.entries()) {
    for (const name of node.outputs) {
      const end = last.get(name) ?? at;
      const bytes = end > at ? bytesOf(graph.statics.get(name)!) : 0;
      change[at + 1]! += bytes;
      change[end + 1]! -= bytes;
    }
  }
  let alive = 0;
  return Array.from(change, (bytes) => {
    alive += bytes;
    return alive;
  });
}

/** Ends of all segments but the last, each where least crosses, near to even parts. */
function quietEnds(
  crossing: readonly number[],
  { count, length }: { count: number; length: number },
): readonly number[] {
  const part = length / count;
  return Array.from({ length: count - 1 }, (_, index) => {
    const middle = Math.round((index + 1) * part);
    const reach = Math.floor(part / 2);
    let best = middle;
    for (let at = Math.max(1, middle - reach); at <= Math.min(length - 1, middle + reach); at++)
      if (crossing[at]! < crossing[best]!) best = at;
    return best;
  });
}

/** The graph with everything inside the segments computed again where the backward pass reads it. */
function rewritten(graph: TracedGraph, forward: readonly Node[], cuts: readonly number[]): TracedGraph {
  const makers = droppedBy(graph, forward, cuts);
  const before = new Set(forward);
  const statics = new Map<string, Static>(graph.statics);
  const copies = new Map<string, string>();
  const nodes: Node[] = [];
  const copy = (maker: Node) => {
    const outputs = maker.outputs.map((made) => (made === "" ? "" : fresh(statics, made)));
    nodes.push({ ...maker, name: `${maker.name}/again`, inputs: maker.inputs.map(copyOf), outputs });
    for (const [index, made] of maker.outputs.entries())
      if (makers.has(made)) copies.set(made, outputs[index]!);
  };
  const due = (name: string) => makers.has(name) && !copies.has(name);
  // Depth first, on a stack of its own: a segment may be a chain of many thousand nodes.
  const again = (wanted: string) => {
    const stack = [wanted];
    for (let name = stack.at(-1); name !== undefined; name = stack.at(-1)) {
      const missing = due(name) ? makers.get(name)!.inputs.filter(due) : [];
      stack.push(...missing);
      if (missing.length > 0) continue;
      if (due(name)) copy(makers.get(name)!);
      stack.pop();
    }
  };
  const copyOf = (name: string) => copies.get(name) ?? name;
  for (const node of graph.nodes) if (before.has(node)) nodes.push(node);
  for (const node of graph.nodes) {
    if (before.has(node)) continue;
    for (const name of node.inputs) again(name);
    nodes.push({ ...node, inputs: node.inputs.map(copyOf) });
  }
  return { ...graph, nodes, statics };
}

function fresh(statics: Map<string, Static>, name: string): string {
  let free = `${name}/again`;
  while (statics.has(free)) free += "_";
  statics.set(free, statics.get(name)!);
  return free;
}

/**
 * The maker of each value that is not kept: made inside a segment and read in no later one. What constants or
 * chance made stays, and so does what an inner graph reads.
 */
function droppedBy(
  graph: TracedGraph,
  forward: readonly Node[],
  cuts: readonly number[],
): ReadonlyMap<string, Node> {
  const segmentOf = (at: number) => cuts.filter((end) => end <= at).length;
  const kept = new Set(graph.outputs.map(({ name }) => name));
  const fed = new Set(graph.inputs.map(({ name }) => name));
  const madeIn = new Map<string, number>();
  for (const [at, node] of forward.entries()) {
    const again = isPure(node) && node.inputs.some((name) => fed.has(name));
    for (const name of node.inputs) if ((madeIn.get(name) ?? 0) !== segmentOf(at)) kept.add(name);
    for (const name of node.outputs) {
      madeIn.set(name, segmentOf(at));
      if (!again) kept.add(name);
      if (again || !isPure(node)) fed.add(name);
    }
  }
  for (const node of graph.nodes)
    for (const name of readsOf(node)) if (!node.inputs.includes(name)) kept.add(name);
  const makers = forward
    .slice(0, cuts.at(-1))
    .flatMap((node) => node.outputs.map((name) => [name, node] as const));
  return new Map(makers.filter(([name]) => name !== "" && !kept.has(name)));
}
