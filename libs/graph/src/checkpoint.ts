import { demand } from "@tutti/foundation/check";
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
 * 1604.06174, section 4). The gradients are the same bit for bit, the price is at most one more forward pass;
 * of the ways that fit, the one that computes least again is taken. It serves engines that keep to the
 * graph's order (tfjs); onnxruntime merges equal nodes when it loads and so undoes it.
 * @throws Fault("unsupported") naming the least that can be reached, when that is over the budget.
 */
export function checkpointed(graph: TracedGraph, { budgetBytes }: CheckpointOptions): TracedGraph {
  const planned = peakBytes(graph);
  if (planned <= budgetBytes) return graph;
  const forward = forwardOf(graph);
  let best: { graph: TracedGraph; again: number } | undefined;
  let least = planned;
  for (const cuts of cutsOf(graph, forward)) {
    const candidate = rewritten(graph, forward, cuts);
    const again = candidate.nodes.length - graph.nodes.length;
    const bytes = peakBytes(candidate);
    least = Math.min(least, bytes);
    if (bytes <= budgetBytes && (best === undefined || again < best.again))
      best = { graph: candidate, again };
  }
  demand(
    best,
    () =>
      new Fault("unsupported", `graph ${graph.name}: memory of a step`, {
        expected: `at most ${budgetBytes} bytes`,
        got: `at least ${least} bytes, computing again what can be`,
        todo: "Train with a smaller batch or shorter texts",
      }),
  );
  return best.graph;
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
 * the last end is kept, as the backward pass begins there. The earlier segments are tried alone too: what
 * they made is kept longest.
 */
function* cutsOf(graph: TracedGraph, forward: readonly Node[]): Generator<readonly number[]> {
  const crossing = crossings(graph, forward);
  const seen = new Set<string>();
  for (const count of SEGMENTS) {
    if (count > forward.length) return;
    const ends = quietEnds(crossing, { count, length: forward.length });
    for (let used = 1; used <= ends.length; used++) {
      const cuts = ends.slice(0, used);
      if (seen.has(`${cuts}`)) continue;
      seen.add(`${cuts}`);
      yield cuts;
    }
  }
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
  const again = (name: string) => {
    const maker = makers.get(name);
    if (!maker || copies.has(name)) return;
    for (const read of maker.inputs) again(read);
    const outputs = maker.outputs.map((made) => (made === "" ? "" : fresh(statics, made)));
    for (const [index, made] of maker.outputs.entries())
      if (makers.has(made)) copies.set(made, outputs[index]!);
    nodes.push({ ...maker, name: `${maker.name}/again`, inputs: maker.inputs.map(copyOf), outputs });
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
 * The maker of each value that is not kept: made inside a segment and read in no later one. What chance made
 * or an inner graph reads stays.
 */
function droppedBy(
  graph: TracedGraph,
  forward: readonly Node[],
  cuts: readonly number[],
): ReadonlyMap<string, Node> {
  const segmentOf = (at: number) => cuts.filter((end) => end <= at).length;
  const kept = new Set(graph.outputs.map(({ name }) => name));
  const madeIn = new Map<string, number>();
  for (const [at, node] of forward.entries()) {
    for (const name of node.inputs) if ((madeIn.get(name) ?? 0) !== segmentOf(at)) kept.add(name);
    for (const name of node.outputs) madeIn.set(name, segmentOf(at));
  }
  for (const node of graph.nodes)
    for (const name of readsOf(node)) if (!node.inputs.includes(name)) kept.add(name);
  const dropped = forward.slice(0, cuts.at(-1)).filter(isPure);
  return new Map(
    dropped.flatMap((node) =>
      node.outputs.filter((name) => !kept.has(name)).map((name) => [name, node] as const),
    ),
  );
}
