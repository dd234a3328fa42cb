import { assert } from "@tutti/foundation/check";
import { Fault } from "@tutti/foundation/fault";
import { fold } from "./fold.ts";
import { inferNode } from "./infer/infer.ts";
import {
  type Attribute,
  type DType,
  type Node,
  type Static,
  sizeOf,
  type Tensor,
  type TracedGraph,
  type ValueInfo,
} from "./ir.ts";
import { live } from "./prune.ts";
import type { Known } from "./site.ts";
import { int64, tensorOf } from "./tensor.ts";

/** Plain attribute values; a float must be given as { float: x } since JavaScript has one number type. */
export type AttributeInit = number | string | readonly number[] | { readonly float: number };

/**
 * Appends nodes to a traced graph. Each emitted node gets its static shapes at once, so a rule that
 * emits something ill-shaped fails where it was written and not when it runs. Equal nodes are emitted once,
 * and nodes over constants alone are computed at once (fold.ts).
 */
export type Builder = {
  /** Version of the operator set that nodes are written in. */
  readonly opset: number;
  /** Emits a node with one output and returns the output's name. `com.microsoft::Op` names another domain. */
  emit(op: string, inputs: readonly string[], attributes?: Readonly<Record<string, AttributeInit>>): string;
  /** Emits a node with several outputs. */
  emitMany(
    op: string,
    inputs: readonly string[],
    options: { outputs: number; attributes?: Readonly<Record<string, AttributeInit>> },
  ): readonly string[];
  /** Appends a node as it stands; its outputs are values the base already gives a static to. */
  place(node: Node): void;
  /** Adds an initializer and returns its name; equal small constants are shared. */
  constant(tensor: Tensor, hint?: string): string;
  /** A float32 scalar constant. */
  scalar(value: number): string;
  /** An int64 vector constant, for shapes and axes. */
  ints(values: readonly number[]): string;
  input(info: { name: string; dtype: DType; shape: readonly number[] }): string;
  output(name: string, as?: string): void;
  static(name: string): Static;
  shape(name: string): readonly number[];
  /** What a Site asks about the values here. */
  readonly known: Known;
  /** The constant behind a name, if it is one. */
  constantOf(name: string): Tensor | undefined;
  /** Nodes so far. */
  size(): number;
  finish(): TracedGraph;
};

/** Operators whose axes moved from an attribute to an input, and the operator set in which they did. */
const AXES_INPUT_SINCE: Readonly<Record<string, number>> = {
  Squeeze: 13,
  Unsqueeze: 13,
  ReduceSum: 13,
  ReduceMean: 18,
  ReduceMax: 18,
  ReduceMin: 18,
  ReduceProd: 18,
  ReduceL1: 18,
  ReduceL2: 18,
  ReduceSumSquare: 18,
  ReduceLogSum: 18,
  ReduceLogSumExp: 18,
};

/** Transposes of more elements than this, a weight's, are left to whoever loads the graph. */
const LEFT_ELEMENTS = 65_536;

/**
 * A gradient reads most weights transposed. Folded here, each would be held twice by the graph, by its file
 * and by whatever loads it; as a node it is one copy, made when an engine loads the graph and folds what
 * reads constants alone (tfjs by its own kernel, on the backend; onnxruntime by its optimiser).
 */
function leftToLoad({ op }: Node, { shape }: Static): boolean {
  return op === "Transpose" && sizeOf(shape) > LEFT_ELEMENTS;
}

/** Constants up to this many elements are compared, so that equal ones are held once. */
const SHARED_ELEMENTS = 64;

/**
 * A builder over a copy of `base`, or over nothing. Axes of Squeeze, Unsqueeze and the reductions are always
 * given as attribute `axes`; the node is written as the operator set wants it. New names never collide.
 */
export function builderOn(base?: TracedGraph, opset = base?.opset ?? 17): Builder {
  assert(!base || opset === base.opset, "a graph keeps the operator set its nodes are written in");
  return new GraphBuilder(base, opset);
}

/** State of a builder: it only ever appends, so names handed out stay valid until `finish`. */
class GraphBuilder implements Builder {
  readonly #name: string;
  readonly opset: number;
  readonly #inputs: ValueInfo[];
  readonly #outputs: ValueInfo[];
  readonly #nodes: Node[];
  readonly #initializers: Map<string, Tensor>;
  readonly #statics: Map<string, Static>;
  readonly known: Known;
  /** Names of emitted values by what computes them, and of small constants by what they hold. */
  readonly #made = new Map<string, readonly string[]>();
  #counter = 0;

  constructor(base: TracedGraph | undefined, opset: number) {
    this.#name = base?.name ?? "tutti";
    this.opset = opset;
    this.#inputs = [...(base?.inputs ?? [])];
    this.#outputs = [...(base?.outputs ?? [])];
    this.#nodes = [...(base?.nodes ?? [])];
    this.#initializers = new Map(base?.initializers);
    this.#statics = new Map(base?.statics);
    this.known = { opset, static: (name) => this.static(name), constant: (name) => this.constantOf(name) };
  }

  emit(
    op: string,
    inputs: readonly string[],
    attributes: Readonly<Record<string, AttributeInit>> = {},
  ): string {
    return this.emitMany(op, inputs, { outputs: 1, attributes })[0]!;
  }

  emitMany(
    op: string,
    inputs: readonly string[],
    options: { outputs: number; attributes?: Readonly<Record<string, AttributeInit>> },
  ): readonly string[] {
    const form = this.#axesForm(op, inputs, options.attributes ?? {});
    const key = JSON.stringify([op, form, options.outputs]);
    const before = this.#made.get(key);
    if (before) return before;
    const names = this.#append(op, form, options.outputs);
    this.#made.set(key, names);
    return names;
  }

  /** Adds the node, or the constants that it comes to. */
  #append(op: string, form: Form, outputs: number): readonly string[] {
    const [domain, name] = op.includes("::") ? (op.split("::") as [string, string]) : ["", op];
    const names = Array.from({ length: outputs }, () => this.#fresh(name.toLowerCase()));
    const attributes = new Map(
      Object.entries(form.attributes).map(([key, init]) => [key, attribute(op, key, init)]),
    );
    const node: Node = {
      op: name,
      domain,
      name: names[0]!,
      inputs: form.inputs,
      outputs: names,
      attributes,
      metadata: new Map(),
    };
    const statics = inferNode(node, this.known);
    const folded = leftToLoad(node, statics[0]!)
      ? undefined
      : fold(node, this.known, statics.slice(0, outputs));
    for (const [i, output] of names.entries()) {
      this.#statics.set(output, statics[i]!);
      if (folded) this.#initializers.set(output, folded[i]!);
    }
    if (!folded) this.#nodes.push(node);
    return names;
  }

  /** Moves axes to where this operator set has them. */
  #axesForm(
    op: string,
    inputs: readonly string[],
    attributes: Readonly<Record<string, AttributeInit>>,
  ): Form {
    const { axes, ...rest } = attributes;
    const since = AXES_INPUT_SINCE[op];
    if (axes === undefined || since === undefined || this.opset < since) return { inputs, attributes };
    return { inputs: [inputs[0]!, this.ints(axes as readonly number[])], attributes: rest };
  }

  place(node: Node): void {
    assert(
      node.outputs.every((name) => name === "" || this.#statics.has(name)),
      `${node.op} ${node.name} was traced`,
    );
    this.#nodes.push(node);
  }

  constant(tensor: Tensor, hint = "constant"): string {
    const add = () => {
      const name = this.#fresh(hint);
      this.#initializers.set(name, tensor);
      this.#statics.set(name, { dtype: tensor.dtype, shape: tensor.shape });
      return name;
    };
    if (tensor.data.length > SHARED_ELEMENTS) return add();
    const values = Array.from(tensor.data as ArrayLike<unknown>, (x) =>
      Object.is(x, -0) ? "-0" : String(x),
    );
    const key = JSON.stringify([tensor.dtype, tensor.shape, values]);
    const name = this.#made.get(key)?.[0] ?? add();
    this.#made.set(key, [name]);
    return name;
  }

  scalar(value: number): string {
    return this.constant(tensorOf("float32", [], [value]), "scalar");
  }

  ints(values: readonly number[]): string {
    return this.constant(int64(values), "ints");
  }

  input({ name, dtype, shape }: { name: string; dtype: DType; shape: readonly number[] }): string {
    if (this.#statics.has(name)) throw new Fault("conflict", `input ${name}`, { expected: "a new name" });
    this.#inputs.push({ name, dtype, shape });
    this.#statics.set(name, { dtype, shape });
    return name;
  }

  /** With `as`, the output gets a name of its own through an Identity node. */
  output(name: string, as = name): void {
    const { dtype, shape } = this.static(name);
    if (this.#outputs.some((output) => output.name === as))
      throw new Fault("conflict", `output ${as}`, { expected: "a new name" });
    if (as !== name) {
      if (this.#statics.has(as)) throw new Fault("conflict", `output ${as}`, { expected: "a new name" });
      this.#nodes.push({ ...BLANK, op: "Identity", name: as, inputs: [name], outputs: [as] });
      this.#statics.set(as, { dtype, shape });
    }
    this.#outputs.push({ name: as, dtype, shape });
  }

  static(name: string): Static {
    const found = this.#statics.get(name);
    if (!found) throw new Fault("not-found", `value ${name}`, { expected: "a value of this graph" });
    return found;
  }

  shape(name: string): readonly number[] {
    return this.static(name).shape;
  }

  constantOf(name: string): Tensor | undefined {
    return this.#initializers.get(name);
  }

  size(): number {
    return this.#nodes.length;
  }

  finish(): TracedGraph {
    return live({
      name: this.#name,
      opset: this.opset,
      inputs: this.#inputs,
      outputs: this.#outputs,
      initializers: this.#initializers,
      nodes: this.#nodes,
      statics: this.#statics,
    });
  }

  /** Counts up until the name is free in the base as well. */
  #fresh(hint: string): string {
    for (;;) {
      const name = `${hint}_${this.#counter++}`;
      if (!this.#statics.has(name)) return name;
    }
  }
}

/** Inputs and attributes of a node, as the operator set wants them. */
type Form = {
  readonly inputs: readonly string[];
  readonly attributes: Readonly<Record<string, AttributeInit>>;
};

/** What an Identity node has besides its names. */
const BLANK = { domain: "", attributes: new Map(), metadata: new Map() };

function attribute(op: string, key: string, init: AttributeInit): Attribute {
  if (typeof init === "string") return { kind: "string", value: init };
  if (typeof init === "object" && "float" in init) return { kind: "float", value: Math.fround(init.float) };
  const all = typeof init === "number" ? [init] : init;
  assert(all.every(Number.isInteger), `${op}.${key}: integers; give a float as { float: x }`);
  return typeof init === "number" ? { kind: "int", value: init } : { kind: "ints", value: init };
}
