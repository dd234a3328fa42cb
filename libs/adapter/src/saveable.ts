import type { Graph, Node } from "@tutti/graph/ir";
import {
  type Candidate,
  freeName,
  type GivenNames,
  isShared,
  siteModule,
  sitesOf,
  storedLayout,
} from "./candidates.ts";
import { endsOf } from "./ends.ts";
import { moduleOf } from "./names.ts";
import type { Sources } from "./sources.ts";
import type { SavedTensor, Use } from "./spec.ts";
import { wiresOf } from "./wires.ts";

/** What an input is called in the module that owns it, by operator and input index. */
const ROLES: Readonly<Record<string, Readonly<Record<number, string>>>> = {
  Gemm: { 2: "bias" },
  Conv: { 1: "weight", 2: "bias" },
  ConvTranspose: { 1: "weight", 2: "bias" },
  LayerNormalization: { 1: "weight", 2: "bias" },
  InstanceNormalization: { 1: "weight", 2: "bias" },
  GroupNormalization: { 1: "weight", 2: "bias" },
  BatchNormalization: { 1: "weight", 2: "bias" },
  RMSNormalization: { 1: "weight" },
  SimplifiedLayerNormalization: { 1: "weight" },
  PRelu: { 1: "weight" },
  FusedGemm: { 2: "bias" },
  Attention: { 2: "bias" },
  MatMulNBits: { 5: "bias" },
  // ONNX's own letters: torch keeps the same numbers in another order of gates, and the biases apart.
  RNN: { 1: "W", 2: "R", 3: "B" },
  GRU: { 1: "W", 2: "R", 3: "B" },
  LSTM: { 1: "W", 2: "R", 3: "B" },
};

/**
 * Stored float32 tensors that can be trained whole, in the graph's order, under `<module>.weight` and
 * `.bias` where the node tells the module, else under their own names. Candidates' weights are among them.
 */
export function saveablesOf(
  graph: Graph,
  sources: Sources,
  known: { candidates: readonly Candidate[]; given: GivenNames },
): readonly SavedTensor[] {
  const naming = namingOf(graph, sources, known);
  const found = new Map<string, Found>();
  for (const node of graph.nodes) {
    for (const [input, value] of node.inputs.entries()) {
      const source = sources.of(value);
      if (!source || source.converted || source.tensor.dtype !== "float32") continue;
      const name = naming(node, input) ?? ownName(node, value, sources);
      if (name === undefined) continue;
      const use = { node: node.outputs[0]!, input, transposed: source.transposed, converted: false };
      const { initializer, tensor } = source;
      const before = found.get(name);
      if (before?.initializer === initializer) before.uses.push(use);
      else {
        const layout = naming.layout(node, input);
        found.set(freeName(name, found), { initializer, shape: tensor.shape, layout, uses: [use] });
      }
    }
  }
  return [...found].map(([name, tensor]) => {
    return { name, ...tensor, shared: isShared(tensor.initializer, tensor.uses, sources) };
  });
}

type Found = Pick<SavedTensor, "initializer" | "shape" | "layout"> & { uses: Use[] };

/** A value read straight from the file has a name; one that only passes on to its reader is named there. */
function ownName(node: Node, value: string, sources: Sources): string | undefined {
  const [first] = node.outputs;
  const passesOn = first !== undefined && sources.of(first) !== undefined;
  return passesOn ? undefined : value;
}

type Naming = {
  (node: Node, input: number): string | undefined;
  layout(node: Node, input: number): SavedTensor["layout"];
};

function namingOf(
  graph: Graph,
  sources: Sources,
  { candidates, given }: { candidates: readonly Candidate[]; given: GivenNames },
): Naming {
  const modules = new Map(candidates.flatMap(({ module, uses }) => uses.map(({ node }) => [node, module])));
  const results = resultsOf(graph, candidates);
  const linear = candidates.filter(({ kind }) => kind === "linear");
  const widths = new Map(linear.flatMap(({ out, uses }) => uses.map(({ node }) => [node, out])));
  const sites = new Map(sitesOf(graph, sources).map((site) => [site.node.outputs[0]!, site]));
  const naming = (node: Node, input: number): string | undefined => {
    const [output] = node.outputs as readonly [string];
    const site = sites.get(output);
    const module = modules.get(output) ?? (site ? siteModule(site, given) : moduleOf(node));
    if (site?.input === input) return `${module}.weight`;
    const role = ROLES[node.op]?.[input];
    if (role) return module === undefined ? undefined : `${module}.${role}`;
    // A linear layer on more than two axes is MatMul, then Add; the bias may be either operand.
    const product = node.op === "Add" ? (node.inputs[1 - input] ?? "") : "";
    const maker = results.get(product) ?? product;
    const isBias = `${sources.of(node.inputs[input]!)?.tensor.shape}` === `${widths.get(maker)}`;
    return isBias ? `${modules.get(maker)}.bias` : undefined;
  };
  const layout = (node: Node, input: number): SavedTensor["layout"] => {
    const site = sites.get(node.outputs[0]!);
    return site?.kind === "linear" && site.input === input && storedLayout(site) === "in-out"
      ? "in-out"
      : "as-is";
  };
  return Object.assign(naming, { layout });
}

/** By the float value that a quantised product ends in: the product's node. */
function resultsOf(graph: Graph, candidates: readonly Candidate[]): ReadonlyMap<string, string> {
  const wires = wiresOf(graph);
  const nodes = new Map(graph.nodes.map((node) => [node.outputs[0]!, node]));
  return new Map(
    candidates.flatMap(({ uses }) =>
      uses.flatMap(({ node, input }): [string, string][] => {
        const ends = endsOf(nodes.get(node)!, input, wires);
        return ends?.way === "beside" ? [[ends.adds.name, node]] : [];
      }),
    ),
  );
}
