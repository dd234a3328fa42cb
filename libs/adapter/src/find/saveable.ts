import { Fault } from "@tutti/foundation/fault";
import type { Graph, Node } from "@tutti/graph/ir";
import { BFLOAT16, dtypeCode } from "@tutti/graph/onnx/dtype";
import type { SavedTensor, Use } from "../spec.ts";
import { isKnown, productOf } from "../whole.ts";
import {
  type Candidate,
  freeName,
  type GivenNames,
  isShared,
  moduleNameOf,
  storedLayout,
  weightUsesOf,
} from "./candidates.ts";
import { endsOf } from "./ends.ts";
import { moduleOf } from "./names.ts";
import type { Source, Sources } from "./sources.ts";
import { type Wires, wiresOf } from "./wires.ts";

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
 * Stored tensors that can be trained whole, in the graph's order, under `<module>.weight` and `.bias` where
 * the node tells the module, else under their own names: floats of any width, and quantised weights of which
 * the graph makes floats or whose products it scales back to floats. Candidates' weights are among them.
 */
export function saveablesOf(
  graph: Graph,
  sources: Sources,
  known: { candidates: readonly Candidate[]; given: GivenNames },
): readonly SavedTensor[] {
  const naming = namingOf(graph, sources, known);
  const wires = wiresOf(graph);
  const found = new Map<string, Found>();
  const spent = new Set<string>();
  for (const node of graph.nodes) {
    for (const [input, value] of node.inputs.entries()) {
      const source = sources.of(value);
      const floats = source && floatsBy(node, input, { graph, sources, source, wires });
      if (!floats) continue;
      for (const scale of floats.spent) spent.add(scale);
      const name = naming(node, input) ?? ownName(node, value, sources);
      if (name === undefined) continue;
      const { initializer, tensor, transposed, converted } = source;
      const use = { node: node.outputs[0]!, input, transposed, converted };
      const before = found.get(name);
      if (before?.initializer === initializer && before.recipe === floats.recipe) before.uses.push(use);
      else {
        const layout = naming.layout(node, input);
        const { recipe } = floats;
        found.set(freeName(name, found), { initializer, shape: tensor.shape, layout, uses: [use], recipe });
      }
    }
  }
  return [...found].flatMap(([name, { recipe, ...tensor }]) => {
    // A scale is a part of its weight, and trained with it.
    if (spent.has(tensor.initializer)) return [];
    return [{ name, ...tensor, shared: isShared(tensor.initializer, tensor.uses, sources) }];
  });
}

/** Why a module's weight cannot be trained whole, where that is so. */
export function wholeRefusal(
  { module, weight }: Pick<Candidate, "module" | "weight">,
  saveables: readonly SavedTensor[],
): Fault | undefined {
  if (saveables.some(({ initializer }) => initializer === weight)) return undefined;
  return new Fault("unsupported", `adapter: ${module}.weight, trained whole`, {
    expected: "floats, or levels that the graph dequantises or scales back",
    got: `levels inside an operator (${weight})`,
    todo: "Give it factors, or take a base that keeps it in floats",
  });
}

type Found = Pick<SavedTensor, "initializer" | "shape" | "layout"> & { uses: Use[]; recipe: string };

/**
 * How floats come of a stored tensor at a node, in a word that tells two ways apart, with the scales that
 * this takes; undefined where none come.
 */
function floatsBy(
  node: Node,
  input: number,
  { graph, sources, source, wires }: { graph: Graph; sources: Sources; source: Source; wires: Wires },
): { readonly recipe: string; readonly spent: readonly string[] } | undefined {
  const { tensor, by } = source;
  const levels = !isFloat(tensor.dtype);
  if (levels && by.length === 0) {
    const product = productOf(node, input, wires);
    if (!product || !isKnown(product, tensor, { graph, ...source })) return undefined;
    const { scales, zero } = product;
    return { recipe: `${[...scales, zero]}`, spent: scales };
  }
  const dequantisers = by.filter(({ op }) => op === "DequantizeLinear");
  const casts = by.filter(({ op }) => op === "Cast");
  const parameters = dequantisers.flatMap(({ inputs }) => inputs.slice(1));
  const constant = parameters.every((name) => name === "" || sources.of(name) !== undefined);
  if (dequantisers.length !== (levels ? 1 : 0) || !constant || !casts.every(givesFloats)) return undefined;
  return { recipe: `${parameters}`, spent: [] };
}

const FLOAT_CODES: ReadonlySet<number> = new Set([dtypeCode("float32"), dtypeCode("float16"), BFLOAT16]);

function givesFloats({ attributes }: Node): boolean {
  const to = attributes.get("to");
  return to?.kind === "int" && FLOAT_CODES.has(to.value);
}

function isFloat(dtype: string): boolean {
  return dtype === "float32" || dtype === "float16";
}

/** A value read straight from the file has a name; one that only passes on to its reader is named there. */
function ownName(node: Node, value: string, sources: Sources): string | undefined {
  const [first] = node.outputs;
  const passesOn = first !== undefined && sources.of(first) !== undefined;
  return passesOn ? undefined : stored(value, sources);
}

/** What was made of a stored tensor on the way goes by that tensor's name. */
function stored(value: string, sources: Sources): string {
  const source = sources.of(value);
  return source?.converted ? source.initializer : value;
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
  const weights = new Map(weightUsesOf(graph, sources).map((use) => [use.node.outputs[0]!, use]));
  const naming = (node: Node, input: number): string | undefined => {
    const [output] = node.outputs as readonly [string];
    const weight = weights.get(output);
    const module = modules.get(output) ?? (weight ? moduleNameOf(weight, given) : moduleOf(node));
    if (weight?.input === input) return `${module}.weight`;
    const role = ROLES[node.op]?.[input];
    if (role) return module === undefined ? undefined : `${module}.${role}`;
    // A linear layer on more than two axes is MatMul, then Add; the bias may be either operand.
    const product = node.op === "Add" ? (node.inputs[1 - input] ?? "") : "";
    const maker = results.get(product) ?? product;
    const isBias = `${sources.of(node.inputs[input]!)?.tensor.shape}` === `${widths.get(maker)}`;
    return isBias ? `${modules.get(maker)}.bias` : undefined;
  };
  const layout = (node: Node, input: number): SavedTensor["layout"] => {
    const weight = weights.get(node.outputs[0]!);
    return weight?.kind === "linear" && weight.input === input && storedLayout(weight) === "in-out"
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
        return ends?.way === "sum-output" ? [[ends.adds.name, node]] : [];
      }),
    ),
  );
}
