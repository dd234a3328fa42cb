import { assert, demand } from "@tutti/foundation/check";
import { Fault } from "@tutti/foundation/fault";
import { builderOn } from "./builder.ts";
import { expanded } from "./expand/expand.ts";
import { inFloat, isFloat, reached } from "./gradient/levels.ts";
import { Adjoint } from "./gradient/rule.ts";
import { ruleOf } from "./gradient/rules.ts";
import { type Node, sizeOf, type TracedGraph } from "./ir.ts";
import { LIMITS } from "./limits.ts";
import { type Ops, opsOn } from "./ops.ts";
import { withOutputs } from "./prune.ts";
import { raisedForTraining } from "./raise.ts";
import { describe } from "./site.ts";

export type DifferentiateOptions = {
  /** Name of a float value with one element. */
  readonly loss: string;
  /** Names of float values: graph inputs, as a rule (adapter tensors, or weights after `promote`). */
  readonly wrt: readonly string[];
  /** Nodes that the result may have; as many as a file (limits.ts) unless told. */
  readonly nodes?: number;
};

/**
 * Reverse-mode differentiation, symbolic: the graph with one more output `grad.<name>` per name in `wrt`,
 * of that value's shape, in operator set 16 or later (raise.ts). Only what lies between `wrt` and the loss is
 * built (Griewank & Walther 2008, section 3.2: the adjoint sweep, here over nodes). A name the loss does not
 * depend on gets zeros.
 * @throws Fault("unsupported") naming the node, when an operator on the way has no gradient, or where the
 * graph would get more nodes than a file may have.
 */
export function differentiate(traced: TracedGraph, options: DifferentiateOptions): TracedGraph {
  const { loss, wrt, nodes = LIMITS.nodes } = options;
  check(traced, { loss, wrt });
  const graph = inRules(raisedForTraining(withOutputs(traced, [loss, ...wrt])), { loss, wrt });
  const build = builderOn({ ...graph, outputs: traced.outputs });
  const ops = opsOn(build);
  const active = dependents(graph, wrt);
  const gradients = new Map<string, string>();
  if (active.has(loss)) gradients.set(loss, ops.expand(ops.number(1, loss), graph.statics.get(loss)!.shape));
  const readers = readersOf(graph);
  for (const node of graph.nodes.toReversed()) {
    demand(build.size() <= nodes, () => tooLarge(graph, node, nodes));
    for (const [input, dx] of adjoints(graph, node, { ops, active, gradients, readers, wrt })) {
      const before = gradients.get(input);
      gradients.set(input, before === undefined ? dx : ops.add(before, dx));
    }
  }
  for (const name of wrt)
    build.output(gradients.get(name) ?? ops.zeros(shapeOf(graph, name), name), `grad.${name}`);
  return build.finish();
}

/**
 * Operators without a rule of their own, where a gradient must pass, in terms of those that have one. So too
 * those whose rule knows the first output alone, where somebody reads another.
 */
function inRules(traced: TracedGraph, { loss, wrt }: DifferentiateOptions): TracedGraph {
  for (let graph = traced; ; ) {
    const active = dependents(graph, wrt);
    const read = new Set([loss, ...wrt, ...graph.nodes.flatMap(({ inputs }) => inputs)]);
    const beyond = (node: Node) =>
      !WHOLE.has(node.op) && node.outputs.slice(1).some((output) => active.has(output) && read.has(output));
    // Asked of outputs: a node's inputs have new names where what came before it was expanded.
    const wanted = (node: Node) =>
      (!ruleOf(node) || beyond(node)) && node.outputs.some((output) => active.has(output));
    const simpler = expanded(graph, { wanted, keep: [loss, ...wrt] });
    if (simpler === graph) return graph;
    graph = simpler;
  }
}

/** Operators whose rules take what arrives at all their outputs. */
const WHOLE: ReadonlySet<string> = new Set(["Split"]);

type Sweep = {
  readonly ops: Ops;
  readonly active: ReadonlySet<string>;
  readonly gradients: ReadonlyMap<string, string>;
  readonly readers: ReadonlyMap<string, ReadonlySet<string>>;
  readonly wrt: readonly string[];
};

/** What one node adds to the gradients of its inputs: pairs of input name and gradient name. */
function adjoints(graph: TracedGraph, node: Node, sweep: Sweep): readonly (readonly [string, string])[] {
  const grads = node.outputs.map((output) => sweep.gradients.get(output));
  const wanted = node.inputs.some((input) => sweep.active.has(input));
  if (!wanted || grads.every((grad) => grad === undefined)) return [];
  const rule = ruleOf(node);
  demand(rule, () => noRule(graph, node, sweep));
  const { ops } = sweep;
  const readers = sweep.readers.get(node.outputs[0] ?? "") ?? new Set();
  const { build } = ops;
  demand(
    node.outputs.every((output) => graph.statics.get(output)?.dtype !== "float16"),
    () =>
      new Fault("unsupported", `gradient of ${describe(node, graph.opset)}`, {
        expected: "float32",
        got: "float16, which would lose it",
        todo: "Export the model in float32",
      }),
  );
  const site = new Adjoint(inFloat(graph, node, sweep), build.known, { grads, readers });
  if (grads.slice(1).some(Boolean) && !WHOLE.has(node.op)) {
    throw site.fault("unsupported", "gradient", { expected: "of the first output alone", got: "of another" });
  }
  return rule(site, ops).flatMap((emit, at) => {
    const input = node.inputs[at]!;
    if (!emit || !sweep.active.has(input)) return [];
    const dx = emit();
    const [got, expected] = [ops.shape(dx), shapeOf(graph, input)];
    assert(
      `${got}` === `${expected}`,
      `${describe(node, graph.opset)}: gradient ${at} is [${got}], not [${expected}]`,
    );
    return [[input, dx] as const];
  });
}

/**
 * Values that depend on one of `wrt` and have a gradient: floats, and integers that
 * stand for dequantised values (gradient/levels.ts). A value of any other type cuts the path.
 */
function dependents(graph: TracedGraph, wrt: readonly string[]): ReadonlySet<string> {
  const active = new Set(wrt);
  for (const node of graph.nodes) {
    if (!node.inputs.some((input) => active.has(input))) continue;
    for (const output of reached(graph, node, active)) active.add(output);
  }
  return active;
}

/** Which operators read a value, those included that read it through nodes that hand it on as it is. */
function readersOf(graph: TracedGraph): ReadonlyMap<string, ReadonlySet<string>> {
  const readers = new Map<string, Set<string>>();
  for (const node of graph.nodes.toReversed()) {
    const onward = HANDED_ON.has(node.op) ? node.outputs.flatMap((y) => [...(readers.get(y) ?? [])]) : [];
    for (const input of node.inputs) {
      const held = readers.get(input) ?? new Set();
      for (const op of [node.op, ...onward]) held.add(op);
      readers.set(input, held);
    }
  }
  return readers;
}

const HANDED_ON: ReadonlySet<string> = new Set([
  ...["Identity", "Cast", "CastLike", "Dropout", "Reshape", "Flatten", "Squeeze", "Unsqueeze"],
  ...["Transpose", "Expand", "Slice", "Split"],
]);

function noRule(graph: TracedGraph, node: Node, { wrt }: Sweep): Fault {
  const depends = wrt.filter((name) => node.inputs.some((input) => dependents(graph, [name]).has(input)));
  return new Fault("unsupported", `${describe(node, graph.opset)} cannot be differentiated`, {
    expected: "an operator with a gradient rule",
    got: `${node.op}, which depends on ${depends.join(", ")}`,
    todo: "Train only what comes after this node, or export the model without it",
  });
}

/** Asked before each node: one rule alone is bounded by itself. */
function tooLarge(graph: TracedGraph, node: Node, nodes: number): Fault {
  return new Fault("unsupported", `gradient of ${describe(node, graph.opset)}`, {
    expected: `at most ${nodes} nodes in a training graph`,
    got: "more",
    todo: "Train only what comes after this node, or bind smaller sizes",
  });
}

function check(graph: TracedGraph, { loss, wrt }: DifferentiateOptions): void {
  for (const name of [loss, ...wrt]) {
    demand(
      isFloat(graph, name),
      () =>
        new Fault("bad-input", `differentiate: ${name}`, {
          expected: "a float value of the graph",
          got: graph.statics.get(name)?.dtype ?? "no such value",
        }),
    );
  }
  const shape = shapeOf(graph, loss);
  demand(
    sizeOf(shape) === 1,
    () => new Fault("bad-input", `loss ${loss}`, { expected: "one element", got: `shape [${shape}]` }),
  );
}

function shapeOf(graph: TracedGraph, name: string): readonly number[] {
  const known = graph.statics.get(name);
  assert(known, `${name} has no static shape`);
  return known.shape;
}
