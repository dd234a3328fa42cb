import { assert, demand } from "@tutti/foundation/check";
import { Fault } from "@tutti/foundation/fault";
import { type Builder, builderOn } from "@tutti/graph/builder";
import type { Node, Static, TracedGraph } from "@tutti/graph/ir";
import { live } from "@tutti/graph/prune";
import { sidePath } from "./side-path.ts";
import { useKey } from "./sources.ts";
import { factorSpecs, type ResolvedAdapter, type SavedTensor, type Use } from "./spec.ts";

/**
 * Puts the adapter into a traced base graph: `y = xW + scale·(x·Aᵀ)·Bᵀ` beside every target
 * (docs/architecture.md, Training is an ONNX graph), and saved tensors in place of the constants they
 * replace. Every tensor of the adapter becomes a float32 input under its name and with its shape, after the
 * graph's own inputs. Base weights stay constants; weights that two modules share are touched at the
 * adapter's nodes alone.
 * @throws Fault("unsupported") naming the module, when the trace has folded a target away;
 * Fault("conflict") when a tensor of the adapter bears the name of a value the graph computes.
 */
export function inject(traced: TracedGraph, adapter: ResolvedAdapter): TracedGraph {
  const base = vacated(traced, adapter);
  const nodes = new Map(base.nodes.map((node) => [node.outputs[0]!, node]));
  const build = builderOn({ ...base, nodes: [], outputs: [] });
  for (const { name, shape } of adapter.tensors) build.input({ name, dtype: "float32", shape });
  const operands = savedOperands(build, adapter.saved, nodes);
  const sums = adapter.modules.flatMap((module) => {
    const [a, b] = factorSpecs(module);
    return module.uses.map((use) => {
      const node = nodeOf(nodes, use, module.module);
      const delta = sidePath(build, { node, input: use.input, module, a: a.name, b: b.name });
      return [use.node, build.emit("Add", [use.node, delta])] as const;
    });
  });
  for (const name of new Set([...operands.values(), ...sums.map(([, sum]) => sum)])) build.output(name);
  return joined(base, build.finish(), { operands, sums: new Map(sums) });
}

/** The graph with the adapter's names free: a constant that bears one gets another. */
function vacated(traced: TracedGraph, { tensors }: ResolvedAdapter): TracedGraph {
  const renames = new Map<string, string>();
  for (const { name } of tensors.filter(({ name }) => traced.statics.has(name))) {
    demand(
      traced.initializers.has(name) && !traced.outputs.some((output) => output.name === name),
      () =>
        new Fault("conflict", `adapter tensor ${name}`, {
          expected: "a name the graph's values do not have",
        }),
    );
    let free = `${name}/base`;
    while (traced.statics.has(free)) free += "_";
    renames.set(name, free);
  }
  const rename = (name: string) => renames.get(name) ?? name;
  const renamedKeys = <T>(map: ReadonlyMap<string, T>) =>
    new Map([...map].map(([name, value]) => [rename(name), value]));
  return {
    ...traced,
    initializers: renamedKeys(traced.initializers),
    statics: renamedKeys(traced.statics),
    nodes: traced.nodes.map((node) => ({ ...node, inputs: node.inputs.map(rename) })),
  };
}

/** What the uses of saved tensors read from now on, by use: the input itself or its transpose. */
function savedOperands(
  build: Builder,
  saved: readonly SavedTensor[],
  nodes: ReadonlyMap<string, Node>,
): ReadonlyMap<string, string> {
  const operands = new Map<string, string>();
  for (const { name, uses } of saved) {
    for (const use of uses) {
      const node = nodeOf(nodes, use, name);
      const operand = use.transposed ? build.emit("Transpose", [name], { perm: [1, 0] }) : name;
      const [was, is] = [build.shape(node.inputs[use.input]!), build.shape(operand)];
      assert(`${was}` === `${is}`, `saved ${name} has the shape of what it replaces: [${was}], not [${is}]`);
      operands.set(useKey(use.node, use.input), operand);
    }
  }
  return operands;
}

function nodeOf(nodes: ReadonlyMap<string, Node>, use: Use, what: string): Node {
  const node = nodes.get(use.node);
  if (node) return node;
  throw new Fault("unsupported", `adapter of ${what}`, {
    expected: "a weight that works on the graph's inputs",
    got: `a node (${use.node}) that depends on constants alone, or that no output needs`,
    todo: "Leave this target out",
  });
}

type Joints = {
  readonly operands: ReadonlyMap<string, string>;
  /** By the name of a target's output: the emitted sum that takes its place. */
  readonly sums: ReadonlyMap<string, string>;
};

/**
 * Base and side nodes in one order. A target's own output moves to a new name and the sum takes the old
 * one, so that every reader, the graph's outputs included, reads the sum unawares.
 */
function joined(base: TracedGraph, side: TracedGraph, { operands, sums }: Joints): TracedGraph {
  const statics = new Map<string, Static>([...base.statics, ...side.statics]);
  const frozen = new Map<string, string>();
  for (const output of sums.keys()) {
    let name = `${output}/frozen`;
    while (statics.has(name)) name += "_";
    frozen.set(output, name);
    statics.set(name, statics.get(output)!);
  }
  const outputOf = new Map([...sums].map(([output, sum]) => [sum, output]));
  const sideNodes = side.nodes.map((node): Node => {
    const output = outputOf.get(node.outputs[0]!);
    if (output === undefined) return node;
    return {
      ...node,
      name: `${output}/sum`,
      inputs: [frozen.get(output)!, node.inputs[1]!],
      outputs: [output],
    };
  });
  const baseNodes = base.nodes.map((node): Node => {
    const { inputs, outputs } = rewired(node, operands);
    return { ...node, inputs, outputs: outputs.map((name) => frozen.get(name) ?? name) };
  });
  return live({
    ...base,
    inputs: side.inputs,
    initializers: new Map([...base.initializers, ...side.initializers]),
    nodes: interleaved(baseNodes, sideNodes),
    statics,
  });
}

function rewired(node: Node, operands: ReadonlyMap<string, string>): Node {
  const inputs = node.inputs.map((name, input) => operands.get(useKey(node.outputs[0]!, input)) ?? name);
  return { ...node, inputs };
}

/** Each side node just before the first base node that needs it; both lists are in order already. */
function interleaved(base: readonly Node[], side: readonly Node[]): readonly Node[] {
  const makers = new Map(side.flatMap((node) => node.outputs.map((name) => [name, node] as const)));
  const placed = new Set<Node>();
  const order: Node[] = [];
  const place = (node: Node) => {
    if (placed.has(node)) return;
    placed.add(node);
    for (const name of node.inputs) {
      const maker = makers.get(name);
      if (maker) place(maker);
    }
    order.push(node);
  };
  for (const node of base) place(node);
  for (const node of side) place(node);
  return order;
}
