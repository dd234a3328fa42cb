import { concat, fromUtf8, utf8 } from "@tutti/foundation/bytes";
import { demand } from "@tutti/foundation/check";
import { Fault } from "@tutti/foundation/fault";
import { type Span, type WireField, wireBytes, wireFields, wireVarints } from "@tutti/wire/wire-format";

/**
 * Where things lie in an .onnx file, found without decoding it: a merge must leave every other byte as it
 * is, and decoding and encoding a whole file does not promise that. Field numbers are onnx.proto3's
 * (docs/onnx.md, Fields and names).
 */
const MODEL = { graph: 7 } as const;
const GRAPH = { node: 1, initializer: 5, input: 11 } as const;
const NODE = { input: 1, output: 2, opType: 4, attribute: 5 } as const;
const ATTRIBUTE = { tensor: 5 } as const;
const TENSOR = { dims: 1, dataType: 2, floatData: 4, name: 8, rawData: 9, dataLocation: 14 } as const;
const VALUE = { name: 1 } as const;

/** TensorProto.DataType (onnx.proto3). */
export const FLOAT = 1;
export const FLOAT16 = 10;

/**
 * A tensor in the file; `data` are the stretches that hold its values as plain little-endian numbers, in
 * order.
 */
export type StoredTensor = {
  readonly dataType: number;
  readonly shape: readonly number[];
  readonly data: readonly Span[];
  readonly external: boolean;
};

/** A node's place and the places of its input names. */
export type StoredNode = Span & { readonly content: Span; readonly inputs: readonly Span[] };

export type FileMap = {
  readonly graph: WireField;
  /** By initializer name, or by the output of the Constant node that holds it. */
  readonly tensors: ReadonlyMap<string, StoredTensor>;
  /** By first output. */
  readonly nodes: ReadonlyMap<string, StoredNode>;
  /** Every value name of the outer graph. */
  readonly names: ReadonlySet<string>;
};

/** Maps the outer graph of a model file. */
export function mapFile(bytes: Uint8Array): FileMap {
  const graphs = [...wireFields(bytes)].filter(({ number }) => number === MODEL.graph);
  const [graph] = graphs;
  demand(
    graph && graphs.length === 1,
    () => new Fault("unsupported", "model file", { expected: "one graph", got: `${graphs.length}` }),
  );
  const map = { tensors: new Map<string, StoredTensor>(), nodes: new Map<string, StoredNode>() };
  const names = new Set<string>();
  for (const field of wireFields(bytes, graph.content)) {
    if (field.number === GRAPH.initializer) {
      const { name, tensor } = mapTensor(bytes, field.content);
      map.tensors.set(name, tensor);
      names.add(name);
    } else if (field.number === GRAPH.input) names.add(nameOf(bytes, field.content));
    else if (field.number === GRAPH.node) mapNode(bytes, field, { ...map, names });
  }
  return { graph, ...map, names };
}

function mapTensor(bytes: Uint8Array, span: Span): { name: string; tensor: StoredTensor } {
  let [name, dataType, external] = ["", 0, false];
  const [shape, data]: [number[], Span[]] = [[], []];
  for (const field of wireFields(bytes, span)) {
    if (field.number === TENSOR.name) name = text(bytes, field.content);
    else if (field.number === TENSOR.dataType) dataType = wireVarints(bytes, field)[0] ?? 0;
    else if (field.number === TENSOR.dims) shape.push(...wireVarints(bytes, field));
    else if (field.number === TENSOR.dataLocation) external = wireVarints(bytes, field)[0] === 1;
    // float_data comes packed in one field, packed in several, or a field per value: stretches in order,
    // all alike.
    else if (field.number === TENSOR.rawData || field.number === TENSOR.floatData) data.push(field.content);
  }
  return { name, tensor: { dataType, shape, data, external } };
}

type Maps = { tensors: Map<string, StoredTensor>; nodes: Map<string, StoredNode>; names: Set<string> };

function mapNode(
  bytes: Uint8Array,
  { start, end, content }: WireField,
  { tensors, nodes, names }: Maps,
): void {
  const inputs: Span[] = [];
  const outputs: string[] = [];
  let constant: StoredTensor | undefined;
  let op = "";
  for (const field of wireFields(bytes, content)) {
    if (field.number === NODE.input) inputs.push({ start: field.start, end: field.end });
    else if (field.number === NODE.output) outputs.push(text(bytes, field.content));
    else if (field.number === NODE.opType) op = text(bytes, field.content);
    else if (field.number === NODE.attribute) constant ??= attributeTensor(bytes, field.content);
  }
  for (const output of outputs) names.add(output);
  const [first] = outputs;
  if (first === undefined) return;
  nodes.set(first, { start, end, content, inputs });
  if (op === "Constant" && constant) tensors.set(first, constant);
}

function attributeTensor(bytes: Uint8Array, span: Span): StoredTensor | undefined {
  for (const field of wireFields(bytes, span)) {
    if (field.number === ATTRIBUTE.tensor) return mapTensor(bytes, field.content).tensor;
  }
  return undefined;
}

function nameOf(bytes: Uint8Array, span: Span): string {
  for (const field of wireFields(bytes, span)) {
    if (field.number === VALUE.name) return text(bytes, field.content);
  }
  return "";
}

function text(bytes: Uint8Array, { start, end }: Span): string {
  return fromUtf8(bytes.subarray(start, end), "name in the model file");
}

/** What a file gets beside overwritten values: tensors of its own, and nodes that read them. */
export type Additions = {
  /** Encoded TensorProto messages. */
  readonly tensors: readonly Uint8Array[];
  /** By a node's first output: new names by input index. */
  readonly inputs: ReadonlyMap<string, ReadonlyMap<number, string>>;
};

/**
 * The file with tensors appended to the graph and inputs renamed; all other fields keep their bytes and
 * order.
 */
export function extended(
  bytes: Uint8Array,
  { graph, nodes }: FileMap,
  { tensors, inputs }: Additions,
): Uint8Array {
  const edits = [...inputs].map(([output, names]) => {
    const node = nodes.get(output)!;
    const renamed = [...names].map(([input, name]) => {
      return { ...node.inputs[input]!, bytes: wireBytes(NODE.input, utf8(name)) };
    });
    return {
      start: node.start,
      end: node.end,
      bytes: wireBytes(GRAPH.node, spliced(bytes, node.content, renamed)),
    };
  });
  const content = spliced(bytes, graph.content, edits);
  const added = tensors.map((tensor) => wireBytes(GRAPH.initializer, tensor));
  const whole = wireBytes(MODEL.graph, concat(content, ...added));
  return concat(bytes.subarray(0, graph.start), whole, bytes.subarray(graph.end));
}

type Edit = Span & { readonly bytes: Uint8Array };

/** The bytes of `span` with some stretches exchanged. */
function spliced(bytes: Uint8Array, span: Span, edits: readonly Edit[]): Uint8Array {
  const parts: Uint8Array[] = [];
  let at = span.start;
  for (const edit of edits.toSorted((a, b) => a.start - b.start)) {
    parts.push(bytes.subarray(at, edit.start), edit.bytes);
    at = edit.end;
  }
  return concat(...parts, bytes.subarray(at, span.end));
}
