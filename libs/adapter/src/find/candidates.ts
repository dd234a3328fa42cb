import type { Graph, Node } from "@tutti/graph/ir";
import type { AdaptedModule, AdapterKind, Use } from "../spec.ts";
import { endsOf } from "./ends.ts";
import { matches, moduleOf, tailOf } from "./names.ts";
import { type Source, type Sources, useKey } from "./sources.ts";
import { opOf, wiresOf } from "./wires.ts";

/** A weight that factors can stand beside: a module before it has a rank. */
export type Candidate = Omit<AdaptedModule, "rank" | "alpha" | "scale">;

/** Names given by hand: module name by node name, or by the name of the node's first output. */
export type GivenNames = Readonly<Record<string, string>>;

/** One node with a constant weight. `layout` is how the node reads it, not how the file stores it. */
export type WeightUse = Slot & { readonly node: Node; readonly source: Source };

type Slot = {
  readonly input: number;
  readonly kind: AdapterKind;
  readonly layout: "in-out" | "out-in";
  /** [in, out] where the stored tensor's shape does not say it. */
  readonly size?: readonly [number, number];
};

/** Every node of the graph with a weight we know how to adapt, in the graph's order. */
export function weightUsesOf(graph: Graph, sources: Sources): readonly WeightUse[] {
  const wires = wiresOf(graph);
  return graph.nodes.flatMap((node) => {
    const slot = SLOTS[opOf(node)]?.(node, sources);
    const source = slot && sources.of(node.inputs[slot.input] ?? "");
    if (!source || !adaptable(node, slot, source) || !endsOf(node, slot.input, wires)) return [];
    return [{ node, ...slot, source }];
  });
}

type SlotOf = (node: Node, sources: Sources) => Slot | undefined;

/** Products of two operands of which one is constant. */
const product: SlotOf = (node, sources) => {
  const [left, right] = [sources.of(node.inputs[0]!), sources.of(node.inputs[1]!)];
  if ((left === undefined) === (right === undefined)) return undefined;
  if (right) return { input: 1, kind: "linear", layout: "in-out" };
  return { input: 0, kind: "linear", layout: "out-in" };
};

const gemm: SlotOf = (node, sources) => {
  const constant = sources.of(node.inputs[0]!) !== undefined;
  if (constant || attribute(node, "alpha", 1) !== 1) return undefined;
  return { input: 1, kind: "linear", layout: attribute(node, "transB", 0) === 1 ? "out-in" : "in-out" };
};

/** A grouped convolution has no single product B·A that a merge could add. */
const convolution =
  (input: number): SlotOf =>
  (node) =>
    attribute(node, "group", 1) === 1 ? { input, kind: "conv", layout: "out-in" } : undefined;

/** By operator. QLinear operators keep scale and zero point between the operands: x 0, w 3. */
const SLOTS: Readonly<Record<string, SlotOf>> = {
  Gemm: gemm,
  MatMul: product,
  Conv: convolution(1),
  Gather(node, sources) {
    const constant = sources.of(node.inputs[1]!) !== undefined;
    if (constant || attribute(node, "axis", 0) !== 0) return undefined;
    return { input: 0, kind: "embedding", layout: "in-out" };
  },
  MatMulInteger: () => ({ input: 1, kind: "linear", layout: "in-out" }),
  ConvInteger: convolution(1),
  QLinearMatMul: () => ({ input: 3, kind: "linear", layout: "in-out" }),
  QLinearConv: convolution(3),
  "com.microsoft::MatMulNBits": (node) => {
    const size = [attribute(node, "K", 0), attribute(node, "N", 0)] as const;
    return { input: 1, kind: "linear", layout: "out-in", size };
  },
  "com.microsoft::DynamicQuantizeMatMul": () => ({ input: 1, kind: "linear", layout: "in-out" }),
  "com.microsoft::MatMulIntegerToFloat": () => ({ input: 1, kind: "linear", layout: "in-out" }),
  "com.microsoft::QGemm": (node, sources) => {
    const slot = gemm(node, sources);
    return slot && { ...slot, input: 3 };
  },
  "com.microsoft::FusedGemm": gemm,
  "com.microsoft::FusedMatMul"(node, sources) {
    const turned = ["transA", "transBatchA", "transBatchB"].some((name) => attribute(node, name, 0) !== 0);
    if (turned || attribute(node, "alpha", 1) !== 1 || sources.of(node.inputs[0]!)) return undefined;
    return { input: 1, kind: "linear", layout: attribute(node, "transB", 0) === 1 ? "out-in" : "in-out" };
  },
  // One weight for queries, keys and values, side by side.
  "com.microsoft::Attention": () => ({ input: 1, kind: "linear", layout: "in-out" }),
};

function adaptable(node: Node, { kind, size }: Slot, { tensor, transposed, converted }: Source): boolean {
  const { dtype, shape } = tensor;
  const integers = INTEGERS.has(opOf(node)) || converted;
  if (!FLOATS.has(dtype) && !(integers && dtype.includes("int"))) return false;
  // Only that much of a packed weight is known: it has no rows and columns of its own.
  if (size) return !transposed && !converted && size.every((width) => width > 0);
  return kind === "conv" ? shape.length >= 3 && !transposed : shape.length === 2;
}

const FLOATS: ReadonlySet<string> = new Set(["float32", "float16"]);

/** Operators that read integers as weights; a table's rows are dequantised after the look-up. */
const INTEGERS: ReadonlySet<string> = new Set([
  "MatMulInteger",
  "ConvInteger",
  "QLinearMatMul",
  "QLinearConv",
  "Gather",
  ...["MatMulNBits", "DynamicQuantizeMatMul", "MatMulIntegerToFloat", "QGemm"].map(microsoft),
]);

function microsoft(op: string): string {
  return `com.microsoft::${op}`;
}

/** Modules that a pattern may name and that have no factors, with the reason. */
export function refusalsOf(
  graph: Graph,
  sources: Sources,
  given: GivenNames,
): readonly { readonly module: string; readonly because: string }[] {
  return graph.nodes.flatMap((node) => {
    const group = attribute(node, "group", 1);
    const source = node.op === "Conv" && group !== 1 ? sources.of(node.inputs[1]!) : undefined;
    if (!source) return [];
    const module = moduleNameOf({ node, source, input: 1 }, given);
    return module === undefined ? [] : [{ module, because: `a convolution in ${group} groups` }];
  });
}

function attribute(node: Node, name: string, fallback: number): number {
  const found = node.attributes.get(name);
  return found?.kind === "int" || found?.kind === "float" ? found.value : fallback;
}

/** Modules of a graph that can be adapted, in the graph's order, each under a name of its own. */
export function candidatesOf(graph: Graph, sources: Sources, given: GivenNames = {}): readonly Candidate[] {
  const groups = new Map<string, WeightUse[]>();
  const byWeight = new Map<string, string[]>();
  const counts = new Map<string, number>();
  for (const use of weightUsesOf(graph, sources)) {
    const { op } = use.node;
    const count = counts.get(op) ?? 0;
    counts.set(op, count + 1);
    const module = moduleNameOf(use, given) ?? `${op}_${count}`;
    const before = byWeight.get(use.source.initializer) ?? [];
    const again = before.find((known) => isSame(groups.get(known)![0]!, known, { use, module }));
    if (again !== undefined) {
      groups.get(again)!.push(use);
      continue;
    }
    const name = groups.has(module) ? freeName(`${module}.${tailOf(use.node)}`, groups) : module;
    groups.set(name, [use]);
    byWeight.set(use.source.initializer, [...before, name]);
  }
  return [...groups].map(([module, found]) => candidate(module, found, sources));
}

/** The module of a weight where a node reads it; what was given by hand comes before what the file says. */
export function moduleNameOf(
  { node, source, input }: Pick<WeightUse, "node" | "source" | "input">,
  given: GivenNames,
): string | undefined {
  const byHand = given[node.name] ?? given[node.outputs[0]!];
  return byHand ?? moduleOf(node, [node.inputs[input]!, source.initializer]);
}

/** A module called twice is one module: the older exporter numbers its later calls (`fc`, `fc_1`). */
function isSame(
  first: WeightUse,
  known: string,
  { use, module }: { use: WeightUse; module: string },
): boolean {
  if (first.kind !== use.kind || storedLayout(first) !== storedLayout(use)) return false;
  return known === module || (module.startsWith(`${known}_`) && /^\d+$/.test(module.slice(known.length + 1)));
}

/** Two weights of one module, as attention keeps them, are told apart by more than its name. */
export function freeName(name: string, taken: { has(name: string): boolean }): string {
  let free = name;
  for (let n = 1; taken.has(free); n++) free = `${name}_${n}`;
  return free;
}

/** How the file stores a weight that a node reads. */
export function storedLayout({ layout, source }: Pick<WeightUse, "layout" | "source">): "in-out" | "out-in" {
  if (!source.transposed) return layout;
  return layout === "in-out" ? "out-in" : "in-out";
}

function candidate(module: string, found: readonly WeightUse[], sources: Sources): Candidate {
  const [{ kind, source, size }] = found as readonly [WeightUse];
  const layout = storedLayout(found[0]!);
  const [first, second, ...kernel] = source.tensor.shape as readonly [number, number];
  const [width, out] = size ?? (layout === "in-out" ? [first, second] : [second, first]);
  const uses = found.map(({ node, input, source: { transposed, converted } }): Use => {
    return { node: node.outputs[0]!, input, transposed, converted };
  });
  const weight = source.initializer;
  return {
    module,
    kind,
    weight,
    layout,
    in: width,
    out,
    kernel: kind === "conv" ? kernel : [],
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
