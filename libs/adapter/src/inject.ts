import { assert, demand } from "@tutti/foundation/check";
import { Fault } from "@tutti/foundation/fault";
import { type Builder, builderOn } from "@tutti/graph/builder";
import type { Node, Static, TracedGraph } from "@tutti/graph/ir";
import { dtypeCode } from "@tutti/graph/onnx/dtype";
import { live } from "@tutti/graph/prune";
import { endsOf, type SidePathEnds, type Value } from "./find/ends.ts";
import { useKey } from "./find/sources.ts";
import { type Wires, wiresOf } from "./find/wires.ts";
import { asFactors, fromFloat32, readsIds, sidePath, sum, summedWeight } from "./side-path.ts";
import { type AdaptedModule, factorSpecs, type ResolvedAdapter, type Use } from "./spec.ts";
import { floatProduct, type Product, productOf, turnedFor } from "./whole.ts";

/**
 * Puts the adapter into a traced base graph: `y = xW + scale·(x·Aᵀ)·Bᵀ` beside every target
 * (docs/architecture.md, Training is an ONNX graph), and saved tensors in place of the constants they
 * replace, with a product in floats where the base multiplies integers. Every tensor of the adapter becomes a
 * float32 input under its name and with its shape, after the graph's own inputs. Base weights stay constants;
 * weights that two modules share are touched at the adapter's nodes alone.
 * @throws Fault("unsupported") naming the module, when the trace has folded a target away;
 * Fault("conflict") when a tensor of the adapter bears the name of a value the graph computes.
 */
export function inject(traced: TracedGraph, adapter: ResolvedAdapter): TracedGraph {
  const base = vacated(traced, adapter);
  const nodes = new Map(base.nodes.map((node) => [node.outputs[0]!, node]));
  const wires = wiresOf(base);
  const targets = adapter.modules.flatMap((module) =>
    module.uses.map((use) => ({ module, use, ...placeOf({ module, use }, nodes, wires) })),
  );
  const wholes = adapter.saved.flatMap(({ name, uses }) =>
    uses.map((use): Whole => {
      const node = nodeOf(nodes, use, name);
      return { name, use, node, product: productOf(node, use.input, wires) };
    }),
  );
  const frozen = frozenNames(base, { targets, wholes });
  const statics = new Map([
    ...base.statics,
    ...[...frozen].map(([y, name]) => [name, base.statics.get(y)!] as const),
  ]);
  const build = builderOn({ ...base, statics, nodes: [], outputs: [] });
  for (const { name, shape } of adapter.tensors) build.input({ name, dtype: "float32", shape });
  const operands = new Map<string, string>();
  const sums = new Map<string, string>();
  for (const whole of wholes) {
    const { use, product } = whole;
    if (product) sums.set(product.gives, savedProduct(build, whole, product));
    else operands.set(useKey(use.node, use.input), savedOperand(build, whole));
  }
  for (const target of targets) {
    const { use, ends } = target;
    if (ends.way === "sum-weight") operands.set(useKey(use.node, use.input), summedOperand(build, target));
    else sums.set(ends.adds.name, summedOutput(build, target, frozen.get(ends.adds.name)!));
  }
  for (const name of new Set([...operands.values(), ...sums.values()])) build.output(name);
  return joined(base, { side: build.finish(), statics, operands, sums, frozen });
}

type Placed = {
  readonly module: AdaptedModule;
  readonly use: Use;
  readonly node: Node;
  readonly ends: SidePathEnds;
};

function placeOf(
  { module: { module }, use }: Pick<Placed, "module" | "use">,
  nodes: ReadonlyMap<string, Node>,
  wires: Wires,
): Pick<Placed, "node" | "ends"> {
  const node = nodeOf(nodes, use, module);
  const ends = endsOf(node, use.input, wires);
  assert(ends, `adapter of ${module}: a node that resolve took stays one of its kind when it is traced`);
  return { node, ends };
}

/** By each value that a side path is added to or that is replaced: the name the base's own moves to. */
function frozenNames(
  { statics }: TracedGraph,
  { targets, wholes }: { targets: readonly Placed[]; wholes: readonly Whole[] },
): ReadonlyMap<string, string> {
  const outputs = [
    ...targets.flatMap(({ ends }) => (ends.way === "sum-output" ? [ends.adds.name] : [])),
    ...wholes.flatMap(({ product }) => (product ? [product.gives] : [])),
  ];
  return new Map(
    outputs.map((output) => {
      let name = `${output}/frozen`;
      while (statics.has(name)) name += "_";
      return [output, name];
    }),
  );
}

/** The scale goes to B, the smaller operand. */
function factorsOf(build: Builder, { module }: Placed): { a: string; b: string } {
  const [a, b] = factorSpecs(module);
  const { scale } = module;
  return { a: a.name, b: scale === 1 ? b.name : build.emit("Mul", [b.name, build.scalar(scale)]) };
}

function summedOperand(build: Builder, target: Placed): string {
  const { node, use } = target;
  const type = dtypeCode(build.static(node.inputs[use.input]!).dtype);
  return summedWeight(build, { ...target, ...factorsOf(build, target) }, type);
}

function summedOutput(build: Builder, target: Placed, frozen: string): string {
  const { node, module, ends } = target;
  assert(ends.way === "sum-output", "a path beside its node");
  const typeOf = ({ name, levels }: Value) => dtypeCode(build.static(levels?.scale ?? name).dtype);
  const x = readsIds(node) ? ends.reads.name : asFactors(build, ends.reads, typeOf(ends.reads));
  const delta = sidePath(build, { ...target, ...factorsOf(build, target) }, x);
  const [is, wanted] = [build.shape(delta), build.shape(frozen)];
  assert(`${is}` === `${wanted}`, `side path of ${module.module} fits: [${is}], [${wanted}]`);
  return sum(
    build,
    { ...ends.adds, name: frozen },
    { name: delta, type: typeOf({ ...ends.adds, name: frozen }) },
  );
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

/** One use of a tensor that is trained whole; `product` where integer arithmetic around it is replaced. */
type Whole = {
  readonly name: string;
  readonly use: Use;
  readonly node: Node;
  readonly product: Product | undefined;
};

/** What a use reads from now on: the adapter's input, turned and in the type of what it replaces. */
function savedOperand(build: Builder, { name, use, node }: Whole): string {
  const { dtype, shape } = build.static(node.inputs[use.input]!);
  assert(dtype === "float32" || dtype === "float16", `saved ${name}: read in floats, not ${dtype}`);
  const operand = fromFloat32(build, turnedFor(build, use, name), dtypeCode(dtype));
  const is = build.shape(operand);
  assert(`${shape}` === `${is}`, `saved ${name} has the shape of what it replaces: [${shape}], not [${is}]`);
  return operand;
}

function savedProduct(build: Builder, { name, use }: Whole, product: Product): string {
  const { dtype, shape } = build.static(product.gives);
  const weight = turnedFor(build, use, name);
  const given = floatProduct(build, product, { weight, type: dtypeCode(dtype) });
  const is = build.shape(given);
  assert(`${shape}` === `${is}`, `product of ${name} has the shape it replaces: [${shape}], not [${is}]`);
  return given;
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
  readonly side: TracedGraph;
  readonly statics: ReadonlyMap<string, Static>;
  readonly operands: ReadonlyMap<string, string>;
  /** By a value of the base: what was emitted to take its place, and its own new name. */
  readonly sums: ReadonlyMap<string, string>;
  readonly frozen: ReadonlyMap<string, string>;
};

/**
 * Base and side nodes in one order. A target's own output moves to a new name and the sum takes the old
 * one, so that every reader, the graph's outputs included, reads the sum unchanged.
 */
function joined(base: TracedGraph, { side, operands, sums, frozen, ...joints }: Joints): TracedGraph {
  const outputOf = new Map([...sums].map(([output, sum]) => [sum, output]));
  const sideNodes = side.nodes.map((node): Node => {
    const output = outputOf.get(node.outputs[0]!);
    return output === undefined ? node : { ...node, name: `${output}/sum`, outputs: [output] };
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
    statics: new Map([...joints.statics, ...side.statics]),
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
