import { Fault } from "@tutti/foundation/fault";
import { type Bind, bindInputs } from "./bind.ts";
import { fold, foldCost } from "./fold.ts";
import { inferNode } from "./infer/infer.ts";
import {
  type Attribute,
  type Graph,
  type Node,
  type Static,
  sizeOf,
  type Tensor,
  type TracedGraph,
  type ValueInfo,
} from "./ir.ts";
import { live } from "./prune.ts";
import { describe, type Known } from "./site.ts";
import { numbers } from "./tensor.ts";

/**
 * Binds the sizes of the inputs and evaluates whatever then depends on constants and shapes alone. In the
 * graph that is left every value has a static dtype and shape, no `If` hangs on a constant and every node
 * matters to some output. Weights are shared with `graph`, never copied. A Fault names the input whose size
 * is missing, or the node that does not fit or is not known.
 */
export function trace(graph: Graph, bind: Bind = {}): TracedGraph {
  const inputs = bindInputs(graph.inputs, bind);
  const state = new Tracing(graph);
  for (const { name, dtype, shape } of inputs) state.statics.set(name, { dtype, shape });
  state.take(graph.nodes);
  const outputs = graph.outputs.map(({ name }) => ({ name, ...state.known.static(name) }));
  const initializers = state.constants;
  return live({
    name: graph.name,
    opset: graph.opset,
    inputs,
    outputs,
    initializers,
    nodes: state.nodes,
    statics: state.statics,
  });
}

/**
 * A few seconds of work for any file, and each of its weights may be turned, cast and scaled some
 * times over.
 */
const FOLD_ROOM = 100_000_000;
const FOLD_PER_ELEMENT = 16;

/** Operators that, where dtype and shape stay, do nothing; Dropout does nothing in inference. */
const UNCHANGED: ReadonlySet<string> = new Set([
  "Identity",
  "Cast",
  "Dropout",
  "Expand",
  "Reshape",
  "Squeeze",
  "Flatten",
]);

class Tracing {
  readonly statics = new Map<string, Static>();
  readonly constants: Map<string, Tensor>;
  readonly nodes: Node[] = [];
  readonly known: Known;
  /** Values that are another one under a new name, by that name. */
  readonly #aliases = new Map<string, string>();
  readonly #kept: ReadonlySet<string>;
  /** Element operations that folding may still take: in proportion to what the file itself holds. */
  #room: number;
  #branches = 0;

  constructor(graph: Graph) {
    this.constants = new Map(graph.initializers);
    const held = [...graph.initializers.values()].reduce((sum, { shape }) => sum + sizeOf(shape), 0);
    this.#room = FOLD_ROOM + FOLD_PER_ELEMENT * held;
    this.#kept = new Set(graph.outputs.map(({ name }) => name));
    for (const [name, { dtype, shape }] of graph.initializers) this.statics.set(name, { dtype, shape });
    this.known = {
      opset: graph.opset,
      static: (name) => {
        const found = this.statics.get(name);
        if (found) return found;
        throw new Fault("bad-input", `value ${name}`, { expected: "a value of this graph" });
      },
      constant: (name) => this.constants.get(name),
    };
  }

  take(nodes: readonly Node[]): void {
    for (const node of nodes) {
      if (node.op === "If" && node.domain === "") this.#branch(node);
      else this.#one(node);
    }
  }

  /** Inputs left out at the end go: onnxruntime's LayerNormalization, say, reads an empty bias and dies. */
  #one(written: Node): void {
    const given = written.inputs.slice(0, written.inputs.findLastIndex((name) => name !== "") + 1);
    const node = { ...written, inputs: given.map((name) => this.#aliases.get(name) ?? name) };
    const statics = inferNode(node, this.known).slice(0, node.outputs.length);
    if (statics.length < node.outputs.length)
      throw new Fault("unsupported", `${describe(node, this.known.opset)}: outputs`, {
        expected: `at most ${statics.length}`,
        got: `${node.outputs.length}`,
      });
    if (this.#passes(node, statics)) return;
    const folded = this.#fold(node, statics);
    for (const [i, name] of node.outputs.entries()) {
      if (name === "") continue;
      this.statics.set(name, statics[i]!);
      if (folded) this.constants.set(name, folded[i]!);
    }
    if (!folded) this.nodes.push(node);
  }

  /** Folds while there is room: many small folds must not add up to what one large fold may not do. */
  #fold(node: Node, statics: readonly Static[]): readonly Tensor[] | undefined {
    const cost = foldCost(node, this.known, statics);
    if (cost > this.#room) return undefined;
    const folded = fold(node, this.known, statics);
    if (folded) this.#room -= cost;
    return folded;
  }

  /** Leaves out a node that hands its input on unchanged, unless its name is one the graph must give out. */
  #passes(node: Node, statics: readonly Static[]): boolean {
    const [source = "", output = ""] = [node.inputs[0], node.outputs[0]];
    if (!UNCHANGED.has(node.op) || node.domain !== "" || node.outputs.length > 1) return false;
    const [from, to] = [this.statics.get(source), statics[0]];
    if (from?.dtype !== to?.dtype || `${from?.shape}` !== `${to?.shape}`) return false;
    if (this.#kept.has(output) || this.constants.has(source)) return false;
    this.#aliases.set(output, source);
    return true;
  }

  /**
   * The branch that a constant condition picks, in line. Its own values get new names, since both
   * branches may share some.
   */
  #branch(node: Node): void {
    const condition = this.constants.get(this.#aliases.get(node.inputs[0] ?? "") ?? node.inputs[0] ?? "");
    const who = describe(node, this.known.opset);
    if (!condition)
      throw new Fault("unsupported", who, {
        expected: "a condition known before the run",
        got: "one that is computed",
      });
    const chosen = node.attributes.get(numbers(condition)[0] ? "then_branch" : "else_branch");
    if (chosen?.kind !== "graph") throw new Fault("bad-input", who, { expected: "two branches" });
    const { initializers, nodes, outputs } = renamed(chosen.value, node, `branch_${this.#branches++}/`);
    for (const [name, tensor] of initializers) {
      this.constants.set(name, tensor);
      this.statics.set(name, { dtype: tensor.dtype, shape: tensor.shape });
    }
    this.take(nodes);
    for (const [i, name] of node.outputs.entries()) this.#alias(name, outputs[i]!.name);
  }

  /**
   * `name` for what is already there under another: a constant is shared, anything else passes an
   * Identity.
   */
  #alias(name: string, source: string): void {
    const attributes = new Map<string, Attribute>();
    this.#one({
      op: "Identity",
      domain: "",
      name,
      inputs: [source],
      outputs: [name],
      attributes,
      metadata: new Map(),
    });
  }
}

/** A branch with a prefix before every name it defines itself. */
function renamed(graph: Graph, node: Node, prefix: string): Graph {
  const own = new Set([...graph.initializers.keys(), ...graph.nodes.flatMap(({ outputs }) => outputs)]);
  const rename = (name: string) => (own.has(name) && name !== "" ? `${prefix}${name}` : name);
  return {
    ...graph,
    name: node.name,
    initializers: new Map([...graph.initializers].map(([name, tensor]) => [rename(name), tensor])),
    nodes: graph.nodes.map((inner) => renamedNode(inner, rename)),
    outputs: graph.outputs.map((output): ValueInfo => ({ ...output, name: rename(output.name) })),
  };
}

function renamedNode(node: Node, rename: (name: string) => string): Node {
  const attributes = new Map(
    [...node.attributes].map(([key, value]) => [key, renamedAttribute(value, rename)]),
  );
  return { ...node, inputs: node.inputs.map(rename), outputs: node.outputs.map(rename), attributes };
}

/**
 * Inner graphs read outer names; what they define themselves is unique already, so renaming it too is
 * harmless.
 */
function renamedAttribute(attribute: Attribute, rename: (name: string) => string): Attribute {
  if (attribute.kind !== "graph") return attribute;
  const { value } = attribute;
  const initializers = new Map([...value.initializers].map(([name, tensor]) => [rename(name), tensor]));
  const nodes = value.nodes.map((inner) => renamedNode(inner, rename));
  const outputs = value.outputs.map((output) => ({ ...output, name: rename(output.name) }));
  return { kind: "graph", value: { ...value, initializers, nodes, outputs } };
}
