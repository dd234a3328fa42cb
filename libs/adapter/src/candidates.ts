import type { Graph, Node } from "@tutti/graph/ir";
import { matches, moduleOf, tailOf } from "./names.ts";
import { type Source, type Sources, useKey } from "./sources.ts";
import type { AdaptedModule, AdapterKind, Use } from "./spec.ts";

/** A weight that factors can stand beside: a module before it has a rank. */
export type Candidate = Omit<AdaptedModule, "rank" | "alpha" | "scale">;

/** Names given by hand: module name by node name, or by the name of the node's first output. */
export type GivenNames = Readonly<Record<string, string>>;

/** One node with a constant weight. `layout` is how the node reads it, not how the file stores it. */
export type Site = {
  readonly node: Node;
  readonly input: number;
  readonly kind: AdapterKind;
  readonly layout: "in-out" | "out-in";
  readonly source: Source;
};

/** Every node of the graph with a weight we know how to adapt, in the graph's order. */
export function sitesOf(graph: Graph, sources: Sources): readonly Site[] {
  return graph.nodes.flatMap((node) => siteOf(node, sources) ?? []);
}

function siteOf(node: Node, sources: Sources): Site | undefined {
  if (node.domain !== "") return undefined;
  const place = SLOTS[node.op]?.(node, sources);
  const source = place && sources.of(node.inputs[place.input] ?? "");
  if (!source || !adaptable(place.kind, source)) return undefined;
  return { node, ...place, source };
}

type Slot = Pick<Site, "input" | "kind" | "layout">;

const SLOTS: Readonly<Record<string, (node: Node, sources: Sources) => Slot | undefined>> = {
  Gemm(node, sources) {
    const constant = sources.of(node.inputs[0]!) !== undefined;
    if (constant || attribute(node, "alpha", 1) !== 1) return undefined;
    return { input: 1, kind: "linear", layout: attribute(node, "transB", 0) === 1 ? "out-in" : "in-out" };
  },
  MatMul(node, sources) {
    const [left, right] = [sources.of(node.inputs[0]!), sources.of(node.inputs[1]!)];
    if ((left === undefined) === (right === undefined)) return undefined;
    if (right) return { input: 1, kind: "linear", layout: "in-out" };
    return { input: 0, kind: "linear", layout: "out-in" };
  },
  // A grouped convolution has no single product B·A that a merge could add.
  Conv: (node) =>
    attribute(node, "group", 1) === 1 ? { input: 1, kind: "conv", layout: "out-in" } : undefined,
  Gather(node, sources) {
    const constant = sources.of(node.inputs[1]!) !== undefined;
    if (constant || attribute(node, "axis", 0) !== 0) return undefined;
    return { input: 0, kind: "embedding", layout: "in-out" };
  },
};

function adaptable(kind: AdapterKind, { tensor, transposed, converted }: Source): boolean {
  const { dtype, shape } = tensor;
  const float = dtype === "float32" || dtype === "float16" || (converted && dtype.includes("int"));
  return float && (kind === "conv" ? shape.length >= 3 && !transposed : shape.length === 2);
}

function attribute(node: Node, name: string, fallback: number): number {
  const found = node.attributes.get(name);
  return found?.kind === "int" || found?.kind === "float" ? found.value : fallback;
}

/** Modules of a graph that can be adapted, in the graph's order, each under a name of its own. */
export function candidatesOf(graph: Graph, sources: Sources, given: GivenNames = {}): readonly Candidate[] {
  const groups = new Map<string, Site[]>();
  const byWeight = new Map<string, string[]>();
  const counts = new Map<string, number>();
  for (const site of sitesOf(graph, sources)) {
    const { op } = site.node;
    const count = counts.get(op) ?? 0;
    counts.set(op, count + 1);
    const module = siteModule(site, given) ?? `${op}_${count}`;
    const before = byWeight.get(site.source.initializer) ?? [];
    const again = before.find((known) => isSame(groups.get(known)![0]!, known, { site, module }));
    if (again !== undefined) {
      groups.get(again)!.push(site);
      continue;
    }
    const name = groups.has(module) ? freeName(`${module}.${tailOf(site.node)}`, groups) : module;
    groups.set(name, [site]);
    byWeight.set(site.source.initializer, [...before, name]);
  }
  return [...groups].map(([module, sites]) => candidate(module, sites, sources));
}

/** The module a site belongs to; what was given by hand comes before anything the file says. */
export function siteModule({ node, source, input }: Site, given: GivenNames): string | undefined {
  const told = given[node.name] ?? given[node.outputs[0]!];
  return told ?? moduleOf(node, [node.inputs[input]!, source.initializer]);
}

/** A module called twice is one module: the older exporter numbers its later calls (`fc`, `fc_1`). */
function isSame(first: Site, known: string, { site, module }: { site: Site; module: string }): boolean {
  if (first.kind !== site.kind || storedLayout(first) !== storedLayout(site)) return false;
  return known === module || (module.startsWith(`${known}_`) && /^\d+$/.test(module.slice(known.length + 1)));
}

/** Two weights of one module, as attention keeps them, are told apart by more than its name. */
export function freeName(name: string, taken: { has(name: string): boolean }): string {
  let free = name;
  for (let n = 1; taken.has(free); n++) free = `${name}_${n}`;
  return free;
}

/** How the file stores a site's weight. */
export function storedLayout({ layout, source }: Pick<Site, "layout" | "source">): "in-out" | "out-in" {
  if (!source.transposed) return layout;
  return layout === "in-out" ? "out-in" : "in-out";
}

function candidate(module: string, sites: readonly Site[], sources: Sources): Candidate {
  const [{ kind, source }] = sites as readonly [Site];
  const layout = storedLayout(sites[0]!);
  const [first, second, ...kernel] = source.tensor.shape as readonly [number, number];
  const [width, out] = layout === "in-out" ? [first, second] : [second, first];
  const uses = sites.map((site): Use => {
    const { transposed, converted } = site.source;
    return { node: site.node.outputs[0]!, input: site.input, transposed, converted };
  });
  const weight = source.initializer;
  return {
    module,
    kind,
    weight,
    layout,
    in: width,
    out,
    kernel,
    uses,
    shared: isShared(weight, uses, sources),
  };
}

/** Whether anything but these uses reads a stored tensor. */
export function isShared(initializer: string, uses: readonly Use[], sources: Sources): boolean {
  const own = new Set(uses.map(({ node, input }) => useKey(node, input)));
  return sources.finalReaders(initializer).some((reader) => !own.has(reader));
}

/** Those of `items` whose name any of the patterns means; reports each pattern that means none. */
export function select<T>(
  items: readonly T[],
  patterns: readonly string[],
  { names, missing }: { names: (item: T) => readonly string[]; missing: (pattern: string) => never },
): readonly T[] {
  for (const pattern of patterns) {
    if (!items.some((item) => names(item).some((name) => matches(pattern, name)))) missing(pattern);
  }
  return items.filter((item) =>
    names(item).some((name) => patterns.some((pattern) => matches(pattern, name))),
  );
}
