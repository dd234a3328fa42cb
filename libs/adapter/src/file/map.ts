import { fromUtf8 } from "@tutti/foundation/bytes";
import { demand } from "@tutti/foundation/check";
import { Fault } from "@tutti/foundation/fault";
import { dtypeCode } from "@tutti/graph/onnx/dtype";
import { type Span, type WireField, wireFields, wireVarints } from "@tutti/wire/wire-format";

/**
 * Where things lie in an .onnx file, found without decoding it: a merge must leave every other byte as it
 * is, and decoding and encoding a whole file does not promise that. Field numbers are onnx.proto3's
 * (docs/onnx.md, Fields and names).
 */
export const MODEL = { graph: 7 } as const;
export const GRAPH = { node: 1, initializer: 5, input: 11 } as const;
export const NODE = { input: 1, output: 2, opType: 4, attribute: 5 } as const;
const ATTRIBUTE = { tensor: 5 } as const;
const TENSOR = {
  dims: 1,
  dataType: 2,
  floatData: 4,
  name: 8,
  rawData: 9,
  externalData: 13,
  dataLocation: 14,
} as const;
const ENTRY = { key: 1, value: 2 } as const;
const VALUE = { name: 1 } as const;

/** TensorProto.DataType (onnx.proto3). */
export const FLOAT = dtypeCode("float32");
export const FLOAT16 = dtypeCode("float16");
export { BFLOAT16 } from "@tutti/graph/onnx/dtype";

/**
 * A tensor in the file; `data` are the stretches that hold its values as plain little-endian numbers, in
 * order.
 */
export type StoredTensor = {
  readonly dataType: number;
  readonly shape: readonly number[];
  readonly data: readonly Span[];
  /** Where the values lie if not in this file; `length` in bytes, undefined for "to the end". */
  readonly external?: { readonly location: string; readonly offset: number; readonly length?: number };
};

/** A node's place and the places of its input and output names, as whole fields. */
export type StoredNode = Span & {
  readonly content: Span;
  readonly inputs: readonly Span[];
  readonly outputs: readonly Span[];
};

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
  let [name, dataType, outside] = ["", 0, false];
  const [shape, data]: [number[], Span[]] = [[], []];
  const entries = new Map<string, string>();
  for (const field of wireFields(bytes, span)) {
    if (field.number === TENSOR.name) name = text(bytes, field.content);
    else if (field.number === TENSOR.dataType) dataType = wireVarints(bytes, field)[0] ?? 0;
    else if (field.number === TENSOR.dims) shape.push(...wireVarints(bytes, field));
    else if (field.number === TENSOR.dataLocation) outside = wireVarints(bytes, field)[0] === 1;
    else if (field.number === TENSOR.externalData) entries.set(...mapEntry(bytes, field.content));
    // float_data comes packed in one field, packed in several, or a field per value: stretches in order,
    // all alike.
    else if (field.number === TENSOR.rawData || field.number === TENSOR.floatData) data.push(field.content);
  }
  const stored = { dataType, shape, data };
  return { name, tensor: outside ? { ...stored, external: place(name, entries) } : stored };
}

function mapEntry(bytes: Uint8Array, span: Span): [string, string] {
  const parts = new Map([...wireFields(bytes, span)].map(({ number, content }) => [number, content]));
  const part = (number: number) => text(bytes, parts.get(number) ?? { start: 0, end: 0 });
  return [part(ENTRY.key), part(ENTRY.value)];
}

/** Keys location, offset and length (ONNX, docs/ExternalData.md). */
function place(name: string, entries: ReadonlyMap<string, string>): NonNullable<StoredTensor["external"]> {
  const natural = (key: string): number | undefined => {
    const given = entries.get(key);
    if (given === undefined) return undefined;
    const value = Number(given);
    const fits = /^\d+$/.test(given) && Number.isSafeInteger(value);
    demand(fits, () => new Fault("bad-input", `external data of ${name}, ${key}`, { got: given }));
    return value;
  };
  const [location, length] = [entries.get("location") ?? "", natural("length")];
  return { location, offset: natural("offset") ?? 0, ...(length === undefined ? {} : { length }) };
}

type Maps = { tensors: Map<string, StoredTensor>; nodes: Map<string, StoredNode>; names: Set<string> };

function mapNode(
  bytes: Uint8Array,
  { start, end, content }: WireField,
  { tensors, nodes, names }: Maps,
): void {
  const [inputs, outputs]: [Span[], Span[]] = [[], []];
  const made: string[] = [];
  let constant: StoredTensor | undefined;
  let op = "";
  for (const field of wireFields(bytes, content)) {
    if (field.number === NODE.input) inputs.push({ start: field.start, end: field.end });
    else if (field.number === NODE.output) {
      outputs.push({ start: field.start, end: field.end });
      made.push(text(bytes, field.content));
    } else if (field.number === NODE.opType) op = text(bytes, field.content);
    else if (field.number === NODE.attribute) constant ??= attributeTensor(bytes, field.content);
  }
  for (const output of made) names.add(output);
  const [first] = made;
  if (first === undefined) return;
  nodes.set(first, { start, end, content, inputs, outputs });
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
