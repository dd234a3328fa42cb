import { canonical, compareBytes } from "@tutti/foundation/bytes";
import { sha256 } from "@tutti/foundation/hash";
import type { GraphSize } from "./finder.ts";

/**
 * Who holds whose shares, as plain data. A device's masks run along every edge that either end picked, so
 * both ends know the edges of their own (Bell et al. 2020, Alg. 3). Names ascend in every list.
 */
export type Graph = GraphSize & {
  readonly members: readonly string[];
  /** out(u) and in(u) by u; null where everyone is linked with everyone. */
  readonly picked: { readonly holders: Lists; readonly sharers: Lists } | null;
};

type Lists = ReadonlyMap<string, readonly string[]>;

/** out(u): who holds u's shares. On the full graph everyone, u too. */
export function holdersOf({ members, picked }: Graph, name: string): readonly string[] {
  return picked ? (picked.holders.get(name) ?? []) : members;
}

/** in(u): whose shares u holds. */
export function sharersOf({ members, picked }: Graph, name: string): readonly string[] {
  return picked ? (picked.sharers.get(name) ?? []) : members;
}

/** N(u): with whom u has a mask; never itself. */
export function neighboursOf(graph: Graph, name: string): readonly string[] {
  if (!graph.picked) return graph.members.filter((other) => other !== name);
  return [...new Set([...holdersOf(graph, name), ...sharersOf(graph, name)])].sort();
}

/** Everyone with everyone (Bonawitz et al. 2017). */
export function completeGraph(members: readonly string[], threshold: number): Graph {
  return { degree: members.length, threshold, members, picked: null };
}

/** In-degree above which picks are let go, in multiples of k. */
const MOST_PICKED = 4;

/**
 * The graph of everybody's own picks, `picks` being whom each member picked, members only. Of a member picked
 * by more than 4k, only 4k picks count, those whose hash under `root` is smallest: honest picks come to about
 * k, so this bounds what liars who all pick one member can cost it, and nobody chooses whom it hits.
 */
export function pickedGraph(
  picks: Lists,
  { degree, threshold, root }: GraphSize & { root: Uint8Array },
): Graph {
  const members = [...picks.keys()];
  const by = new Map(members.map((name) => [name, [] as string[]]));
  for (const [name, holders] of picks) for (const holder of holders) by.get(holder)?.push(name);
  const sharers = new Map<string, readonly string[]>();
  const holders = new Map(members.map((name) => [name, [] as string[]]));
  for (const [holder, names] of by) {
    const kept = thinned(names, { holder, root, most: MOST_PICKED * degree });
    sharers.set(holder, kept);
    for (const name of kept) holders.get(name)!.push(holder);
  }
  for (const list of holders.values()) list.sort();
  return { degree, threshold, members, picked: { holders, sharers } };
}

function thinned(
  by: readonly string[],
  { holder, root, most }: { holder: string; root: Uint8Array; most: number },
): readonly string[] {
  if (by.length <= most) return [...by].sort();
  const hashed = by.map((name) => {
    return { name, hash: sha256(canonical("tutti/surplus/v1", root, holder, name)) };
  });
  hashed.sort((a, b) => compareBytes(a.hash, b.hash));
  const kept = hashed.slice(0, most).map(({ name }) => name);
  return kept.sort();
}
