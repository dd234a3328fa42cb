import { assert, demand } from "@tutti/foundation/check";
import { Fault } from "@tutti/foundation/fault";
import type { AttributeInit } from "@tutti/graph/builder";
import { type Attribute, float32, type Node, sizeOf } from "@tutti/graph/ir";
import { LIMITS } from "@tutti/graph/limits";
import { writeAttribute } from "@tutti/graph/onnx/attribute";
import { writeTensor } from "@tutti/graph/onnx/tensor";
import { create, decode, encode } from "@tutti/wire/message";
import {
  type GraphProto,
  ModelProtoSchema,
  type NodeProto,
  NodeProtoSchema,
  TensorProtoSchema,
} from "@tutti/wire/onnx";
import { opOf, type Wires, wiresOf } from "../find/wires.ts";
import type { Emitter } from "../side-path.ts";
import type { Use } from "../spec.ts";
import { type FileMap, FLOAT, mapFile } from "./map.ts";
import type { NodeChange } from "./rewrite.ts";

/**
 * The nodes of a model file, with changes that are gathered and not yet made: `rewritten` makes them. Weights
 * are not looked at, so files that hold them elsewhere are not needed.
 */
export class FileNodes implements Emitter {
  readonly map: FileMap;
  readonly wires: Wires;
  readonly changes = new Map<string, NodeChange>();
  /** Tensors of our own, encoded. */
  readonly initializers: Uint8Array[] = [];
  readonly #nodes: ReadonlyMap<string, Node>;
  readonly #names: Set<string>;
  /** Where emitted nodes go. */
  #place: Uint8Array[] = [];
  #count = 0;

  constructor(bytes: Uint8Array) {
    this.map = mapFile(bytes);
    const { graph } = decode(ModelProtoSchema, bytes, LIMITS.modelBytes);
    const nodes = (graph?.node ?? []).map(nodeOf);
    const outputs = (graph?.output ?? []).map(({ name }) => ({
      name,
      dtype: "float32" as const,
      shape: null,
    }));
    this.wires = wiresOf({ nodes, outputs });
    this.#nodes = new Map(nodes.map((node) => [node.outputs[0]!, node]));
    this.#names = new Set(this.map.names);
    if (graph) for (const name of innerNames(graph.node)) this.#names.add(name);
  }

  has(name: string): boolean {
    return this.#names.has(name);
  }

  /** By its first output. */
  node(output: string, what: string): Node {
    const node = this.#nodes.get(output);
    if (node) return node;
    throw new Fault("unsupported", `adapter of ${what}`, {
      expected: `a node that makes ${output}`,
      got: "none",
    });
  }

  emit(
    op: string,
    inputs: readonly string[],
    attributes: Readonly<Record<string, AttributeInit>> = {},
  ): string {
    const output = this.#fresh();
    const attribute = Object.entries(attributes).map(([name, init]) =>
      writeAttribute(name, attributeOf(init), { tensor: never, graph: never }),
    );
    const proto = create(NodeProtoSchema, {
      opType: op,
      name: output,
      input: [...inputs],
      output: [output],
      attribute,
    });
    this.#place.push(encode(NodeProtoSchema, proto));
    return output;
  }

  /** A float32 constant of zeros. */
  zeros(shape: readonly number[]): string {
    const name = this.#fresh();
    const tensor = writeTensor(name, float32(shape, new Float32Array(sizeOf(shape))));
    this.initializers.push(encode(TensorProtoSchema, tensor));
    return name;
  }

  /** Emits in front of a node. */
  before(output: string, emit: (build: Emitter) => string): string {
    this.#place = this.#change(output).before;
    return emit(this);
  }

  /** Makes a use read another value. */
  replace({ node, input }: Use, name: string): void {
    this.#change(node).inputs.set(input, name);
  }

  /** A value's maker gives it under a new name; what `emit` makes of that takes the value's own name. */
  join(value: string, emit: (build: Emitter, own: string) => string): void {
    const change = this.#change(value);
    const index = this.#nodes.get(value)!.outputs.indexOf(value);
    demand(!change.outputs.has(index), () => {
      return new Fault("conflict", `side path at ${value}`, { expected: "one module", got: "two" });
    });
    const own = this.#fresh();
    change.outputs.set(index, own);
    this.#place = change.after;
    const sum = emit(this, own);
    this.#rename(change.after, sum, value);
  }

  /** ONNX's number of the float type that the node of a weight computes in. */
  computeType(node: Node, input: number): number {
    const op = opOf(node);
    if (FLOAT_ONLY.has(op)) return FLOAT;
    // Scales are of the type that levels stand for.
    if (op.startsWith("QLinear")) return this.typeOf(node.inputs[1]!);
    if (op.endsWith("MatMulNBits")) return this.typeOf(node.inputs[2]!);
    const next = op === "Gather" ? this.wires.follower(node.outputs[0]!) : undefined;
    const type = next?.op === "DequantizeLinear" ? this.typeOf(next.inputs[1]!) : undefined;
    return type ?? this.typeOf(node.inputs[input]!);
  }

  /** ONNX's number of a constant's type, through what passes it on. */
  typeOf(name: string): number {
    const stored = this.map.tensors.get(name);
    if (stored) return stored.dataType;
    const maker = this.wires.maker(name);
    const to = maker?.attributes.get("to");
    if (maker?.op === "Cast" && to?.kind === "int") return to.value;
    const from = maker?.inputs[maker.op === "DequantizeLinear" ? 1 : 0];
    return maker && from ? this.typeOf(from) : FLOAT;
  }

  #change(output: string): NodeChange {
    assert(this.#nodes.has(output), `${output} is the first output of a node`);
    const known = this.changes.get(output) ?? {
      inputs: new Map(),
      outputs: new Map(),
      before: [],
      after: [],
    };
    this.changes.set(output, known);
    return known;
  }

  /** The last emitted node, giving its output under another name. */
  #rename(place: Uint8Array[], output: string, name: string): void {
    const proto = decode(NodeProtoSchema, place.pop()!, LIMITS.modelBytes);
    assert(proto.output[0] === output, "the sum is emitted last");
    place.push(encode(NodeProtoSchema, { ...proto, output: [name] }));
  }

  #fresh(): string {
    for (;;) {
      const name = `tutti.side_${this.#count++}`;
      if (this.#names.has(name)) continue;
      this.#names.add(name);
      return name;
    }
  }
}

/** Quantised operators around which floats are float32's. */
const FLOAT_ONLY: ReadonlySet<string> = new Set([
  "MatMulInteger",
  "ConvInteger",
  "com.microsoft::QGemm",
  "com.microsoft::DynamicQuantizeMatMul",
  "com.microsoft::MatMulIntegerToFloat",
]);

/** A node as far as patterns of nodes are about it: tensors and graphs among its attributes are left out. */
function nodeOf(proto: NodeProto): Node {
  const attributes = proto.attribute.flatMap(({ name, ...value }): [string, Attribute][] => {
    if (value.ints.length > 0) return [[name, { kind: "ints", value: value.ints.map(Number) }]];
    if (value.s.length > 0) return [[name, { kind: "string", value: new TextDecoder().decode(value.s) }]];
    if (value.f !== 0) return [[name, { kind: "float", value: value.f }]];
    return value.t || value.g ? [] : [[name, { kind: "int", value: Number(value.i) }]];
  });
  // What inner graphs read of this one counts as inputs: nobody asks for these by index.
  const inner = innerReads(proto);
  return {
    op: proto.opType,
    domain: proto.domain === "ai.onnx" ? "" : proto.domain,
    name: proto.name,
    inputs: [...proto.input, ...inner],
    outputs: proto.output,
    attributes: new Map(attributes),
    metadata: new Map(),
  };
}

function innerGraphs({ attribute }: NodeProto): readonly GraphProto[] {
  return attribute.flatMap(({ g, graphs }) => [...(g ? [g] : []), ...graphs]);
}

function innerReads(node: NodeProto): readonly string[] {
  return innerGraphs(node).flatMap(({ node: nodes, output }) => [
    ...nodes.flatMap((inner) => [...inner.input, ...innerReads(inner)]),
    ...output.map(({ name }) => name),
  ]);
}

/** Every name that graphs inside the nodes define. */
function innerNames(nodes: readonly NodeProto[]): readonly string[] {
  return nodes
    .flatMap(innerGraphs)
    .flatMap((graph) => [
      ...graph.initializer.map(({ name }) => name),
      ...graph.node.flatMap(({ output }) => output),
      ...innerNames(graph.node),
    ]);
}

function attributeOf(init: AttributeInit): Attribute {
  if (typeof init === "string") return { kind: "string", value: init };
  if (typeof init === "number") return { kind: "int", value: init };
  return "float" in init ? { kind: "float", value: init.float } : { kind: "ints", value: init };
}

function never(): never {
  throw new Error("invariant broken: side paths have no tensors or graphs as attributes");
}
