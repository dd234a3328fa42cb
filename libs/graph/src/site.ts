import { Fault, type FaultCode, type FaultDetail } from "@tutti/foundation/fault";
import type { Attribute, DType, Node, Static, Tensor } from "./ir.ts";
import { numbers } from "./tensor.ts";

/**
 * What is known around a node: its operator set, the statics of the values it reads and the constants
 * among them.
 */
export type Known = {
  readonly opset: number;
  static(name: string): Static;
  constant(name: string): Tensor | undefined;
};

/**
 * The one reader of a node's inputs and attributes. Whatever it finds wrong is a Fault that names the node,
 * the operator with its domain and operator set, and the input or attribute.
 */
export class Site {
  readonly node: Node;
  readonly opset: number;
  readonly #known: Known;

  constructor(node: Node, known: Known) {
    this.node = node;
    this.opset = known.opset;
    this.#known = known;
  }

  has(index: number): boolean {
    return (this.node.inputs[index] ?? "") !== "";
  }

  /** Whether the node names output `index`, so that somebody may read it. */
  wants(index: number): boolean {
    return (this.node.outputs[index] ?? "") !== "";
  }

  get inputCount(): number {
    return this.node.inputs.length;
  }

  /** Name of an input that must be there. */
  input(index: number): string {
    return this.#name(index);
  }

  static(index: number): Static {
    return this.#known.static(this.#name(index));
  }

  shape(index: number): readonly number[] {
    return this.static(index).shape;
  }

  dtype(index: number): DType {
    return this.static(index).dtype;
  }

  /** The constant behind an input; undefined when it is absent or computed at run time. */
  constant(index: number): Tensor | undefined {
    return this.has(index) ? this.#known.constant(this.#name(index)) : undefined;
  }

  /** The constant behind an input that must be one: shapes, axes, and everything when evaluating. */
  need(index: number): Tensor {
    const name = this.#name(index);
    const tensor = this.#known.constant(name);
    if (tensor) return tensor;
    throw this.fault("unsupported", `input ${index} (${name})`, {
      expected: "a value known before the run",
      got: "one computed from the graph's inputs",
    });
  }

  /** A constant input as numbers. */
  numbers(index: number): number[] {
    const tensor = this.need(index);
    if (tensor.dtype !== "string") return numbers(tensor);
    throw this.fault("bad-input", `input ${index}`, { expected: "numbers", got: "strings" });
  }

  int(name: string, fallback?: number): number {
    return this.#attribute(name, "int", fallback);
  }

  float(name: string, fallback?: number): number {
    return this.#attribute(name, "float", fallback);
  }

  string(name: string, fallback?: string): string {
    return this.#attribute(name, "string", fallback);
  }

  ints(name: string, fallback?: readonly number[]): readonly number[] {
    return this.#attribute(name, "ints", fallback);
  }

  /** Integers that older operator sets hold in attribute `name` and newer ones in input `index`. */
  list(name: string, index: number): readonly number[] | undefined {
    if (this.has(index) && this.node.attributes.has(name))
      throw this.fault("bad-input", name, { expected: `an attribute or input ${index}`, got: "both" });
    if (this.has(index)) return this.numbers(index);
    return this.node.attributes.has(name) ? this.ints(name) : undefined;
  }

  /** An axis attribute counted from the front: `rank` bounds it, negative values count from the end. */
  axis(value: number, rank: number): number {
    if (value >= -rank && value < rank) return value < 0 ? value + rank : value;
    throw this.fault("bad-input", "axis", { expected: `one of ${-rank}..${rank - 1}`, got: `${value}` });
  }

  fault(code: FaultCode, what: string, detail: FaultDetail = {}): Fault {
    return new Fault(code, `${describe(this.node, this.opset)}: ${what}`, detail);
  }

  #name(index: number): string {
    const name = this.node.inputs[index] ?? "";
    if (name !== "") return name;
    throw this.fault("bad-input", `input ${index}`, { expected: "a value", got: "nothing" });
  }

  #attribute<K extends Attribute["kind"]>(name: string, kind: K, fallback?: ValueOf<K>): ValueOf<K> {
    const found = this.node.attributes.get(name);
    if (found?.kind === kind) return found.value as ValueOf<K>;
    if (found === undefined && fallback !== undefined) return fallback;
    throw this.fault("bad-input", `attribute ${name}`, { expected: kind, got: found?.kind ?? "nothing" });
  }
}

type ValueOf<K extends Attribute["kind"]> = Extract<Attribute, { kind: K }>["value"];

/** A node as people are told of it: `Gemm "fc1" (opset 17)`. */
export function describe(node: Node, opset: number): string {
  const op = node.domain ? `${node.domain}.${node.op}` : node.op;
  return `${op} "${node.name || node.outputs[0] || "?"}" (opset ${opset})`;
}
