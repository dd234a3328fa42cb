import { Fault } from "@tutti/foundation/fault";
import { decode } from "@tutti/wire/message";
import { type GraphProto, type ModelProto, ModelProtoSchema, type NodeProto } from "@tutti/wire/onnx";
import type { Graph, Node, Tensor } from "./ir.ts";
import { LIMITS, type Limits } from "./limits.ts";
import { readAttribute } from "./onnx/attribute.ts";
import { constantTensor } from "./onnx/constant.ts";
import { refuseNarrowResults } from "./onnx/narrow.ts";
import { inOrder } from "./onnx/order.ts";
import { type ExternalData, readTensor, type TensorOptions } from "./onnx/tensor.ts";
import { readValueInfo } from "./onnx/value-info.ts";
import { describe } from "./site.ts";

/** A checked graph, the message it came from and the bytes of that: what a merge overwrites in place. */
export type Model = { readonly graph: Graph; readonly proto: ModelProto; readonly bytes: Uint8Array };

export type ReadOptions = {
  /**
   * Gives the bytes of a file that weights are kept in; refused where absent. Check the path before
   * reading it.
   */
  readonly externalData?: ExternalData;
  readonly limits?: Partial<Limits>;
};

/** The operator sets whose meaning we know. */
const OPSETS = { least: 6, most: 28 } as const;

/** Operators that have meant the same since version 1: a graph of these alone may name an older set. */
const TIMELESS: ReadonlySet<string> = new Set([
  ...["Not", "Constant", "Shape", "Size", "Transpose"],
  ...["Softplus", "Softsign", "GlobalAveragePool", "GlobalMaxPool"],
]);

/** Domains whose operators we may know; "ai.onnx" is the long form of "". */
const DOMAINS: ReadonlySet<string> = new Set(["", "ai.onnx", "com.microsoft"]);

/**
 * A model from the bytes of an .onnx file. Weights are views into `bytes` where alignment permits, so the
 * bytes must not change while the graph is in use. Throws a Fault that names the node, tensor or attribute
 * for what is malformed ("bad-input"), unknown ("unsupported") or not allowed ("refused").
 */
export function read(bytes: Uint8Array, options: ReadOptions = {}): Model {
  const limits = { ...LIMITS, ...options.limits };
  const proto = decode(ModelProtoSchema, bytes, limits.modelBytes, { unknown: "keep" });
  if (!proto.graph) throw new Fault("bad-input", "model", { expected: "a graph", got: "none" });
  if (proto.functions.length > 0)
    throw new Fault("unsupported", "model functions", { got: proto.functions.map((f) => f.name).join(", ") });
  const reader = { opset: opsetOf(proto), limits, externalData: options.externalData };
  return { graph: readGraph(proto.graph, reader, { names: new Set(), depth: 0 }), proto, bytes };
}

type Reader = TensorOptions & { readonly opset: number; readonly limits: Limits };

/** What encloses a graph: the names it may read and how deep it lies. */
type Scope = { readonly names: ReadonlySet<string>; readonly depth: number };

/** The version of the standard operators; other domains have versions of their own that nobody raises. */
function opsetOf(proto: ModelProto): number {
  const standard = proto.opsetImport.find(({ domain }) => domain === "" || domain === "ai.onnx");
  const version = Number(standard?.version ?? 0n);
  if (version >= OPSETS.least && version <= OPSETS.most) return version;
  if (version >= 1 && version < OPSETS.least && timeless(proto)) return OPSETS.least;
  const expected = `version ${OPSETS.least} to ${OPSETS.most}`;
  throw new Fault("unsupported", "operator set", { expected, got: `${version}` });
}

const timeless = ({ graph }: ModelProto): boolean =>
  graph?.node.every(({ opType }) => TIMELESS.has(opType)) ?? false;

/** One graph, the inner ones of its nodes included: names first, then order, then nodes one by one. */
function readGraph(proto: GraphProto, reader: Reader, scope: Scope): Graph {
  checkSize(proto, reader.limits, scope);
  refuseNarrowResults(proto);
  const initializers = new Map<string, Tensor>();
  for (const tensor of proto.initializer) {
    if (initializers.has(tensor.name)) throw twice(tensor.name);
    initializers.set(tensor.name, readTensor(tensor, `initializer ${tensor.name}`, reader));
  }
  // IR versions before 4 list initializers among the inputs too; nobody has to feed those.
  const inputs = proto.input.filter(({ name }) => !initializers.has(name)).map(readValueInfo);
  const names = definedNames({ inputs: inputs.map(({ name }) => name), initializers, nodes: proto.node });
  const inner = { names: new Set([...scope.names, ...names]), depth: scope.depth + 1 };
  const nodes: Node[] = [];
  for (const message of inOrder(proto.node, {
    given: [...scope.names, ...initializers.keys(), ...inputs.map((i) => i.name)],
  })) {
    const node = readNode(message, reader, inner);
    if (node.op === "Constant" && node.domain === "") {
      initializers.set(node.outputs[0]!, constantTensor(node, reader.opset));
    } else nodes.push(node);
  }
  const outputs = proto.output.map(readValueInfo);
  for (const { name } of outputs) {
    if (!inner.names.has(name))
      throw new Fault("bad-input", `output ${name}`, { expected: "a value some node makes" });
  }
  return { name: proto.name, opset: reader.opset, inputs, outputs, initializers, nodes };
}

/** Counts are checked before any node or tensor of the graph is decoded. */
function checkSize(proto: GraphProto, limits: Limits, scope: Scope): void {
  if (scope.depth >= limits.depth)
    throw new Fault("bad-input", "graphs inside graphs", { expected: `≤ ${limits.depth} deep` });
  if (proto.node.length > limits.nodes)
    throw new Fault("bad-input", "nodes", { expected: `≤ ${limits.nodes}`, got: `${proto.node.length}` });
  if (proto.sparseInitializer.length > 0) {
    const got = proto.sparseInitializer.map(({ values }) => values?.name).join(", ");
    throw new Fault("unsupported", "sparse initializers", { got });
  }
}

/** Every name a graph defines, each exactly once (ONNX IR, section "Names Within a Graph"). */
function definedNames(parts: {
  inputs: readonly string[];
  initializers: ReadonlyMap<string, Tensor>;
  nodes: readonly NodeProto[];
}): Set<string> {
  const names = new Set(parts.initializers.keys());
  for (const name of [...parts.inputs, ...parts.nodes.flatMap(({ output }) => output)]) {
    if (name === "") continue;
    if (names.has(name)) throw twice(name);
    names.add(name);
  }
  return names;
}

function twice(name: string): Fault {
  return new Fault("bad-input", `value ${name}`, { expected: "one definition", got: "two" });
}

/** A node with its attributes decoded; every complaint begins with its operator and name. */
function readNode(proto: NodeProto, reader: Reader, scope: Scope): Node {
  const bare: Node = {
    op: proto.opType,
    domain: proto.domain === "ai.onnx" ? "" : proto.domain,
    name: proto.name,
    inputs: proto.input,
    outputs: proto.output,
    attributes: new Map(),
    metadata: new Map(proto.metadataProps.map(({ key, value }) => [key, value])),
  };
  const who = describe(bare, reader.opset);
  if (!DOMAINS.has(proto.domain))
    throw new Fault("unsupported", who, { expected: "a domain of ONNX or com.microsoft", got: proto.domain });
  // Until version 7 operands broadcast only where this attribute says so, and then along an axis of
  // its choosing.
  if (reader.opset < 7 && proto.attribute.some(({ name }) => name === "broadcast"))
    throw new Fault("unsupported", `${who}: attribute broadcast`, { expected: "operator set 7 or newer" });
  const attributes = proto.attribute.map((attribute) => {
    const what = `${who}: attribute ${attribute.name}`;
    return [
      attribute.name,
      readAttribute(attribute, what, {
        tensor: (message) => readTensor(message, what, reader),
        graph: (message) => readGraph(message, reader, scope),
      }),
    ] as const;
  });
  return { ...bare, attributes: new Map(attributes) };
}
