import { create, encode, type MessageInitShape } from "@tutti/wire/message";
import {
  type GraphProto,
  GraphProtoSchema,
  ModelProtoSchema,
  type NodeProto,
  NodeProtoSchema,
  TensorProtoSchema,
} from "@tutti/wire/onnx";
import { wireHeader } from "@tutti/wire/wire-format";
import type { Graph, Node } from "./ir.ts";
import { writeAttribute } from "./onnx/attribute.ts";
import { writeTensor } from "./onnx/tensor.ts";
import { writeValueInfo } from "./onnx/value-info.ts";

/**
 * The bytes of an .onnx file with this graph; `read` gives the same graph back. They are those of the whole
 * message encoded at once, but each weight is copied once, into its place, and not once for every message
 * around it: a model is mostly weights, and a device has little memory.
 */
export function write(graph: Graph): Uint8Array {
  const opsetImport = [{ domain: "", version: BigInt(graph.opset) }];
  for (const domain of domainsOf(graph)) opsetImport.push({ domain, version: 1n });
  const model = (init: MessageInitShape<typeof ModelProtoSchema>) =>
    encode(ModelProtoSchema, create(ModelProtoSchema, init));
  const content = graphParts(graph);
  return joined([
    model({ irVersion: irVersionFor(graph.opset), producerName: "tutti" }),
    wireHeader(MODEL_GRAPH, lengthOf(content)),
    ...content,
    model({ opsetImport }),
  ]);
}

/** Field numbers of the two messages that are put together by hand (docs/onnx.md, Fields and names). */
const [MODEL_GRAPH, GRAPH_INITIALIZER, TENSOR_RAW_DATA] = [7, 5, 9] as const;

/** A GraphProto in pieces, by field number: the weights' own memory, and everything around it encoded. */
function graphParts(graph: Graph): readonly Uint8Array[] {
  const encoded = (init: MessageInitShape<typeof GraphProtoSchema>) =>
    encode(GraphProtoSchema, create(GraphProtoSchema, init));
  const { initializer, input, output, ...front } = graphFields(graph);
  const tensors = initializer.map((tensor): readonly Uint8Array[] => {
    const { rawData } = tensor;
    const about = encode(TensorProtoSchema, { ...tensor, rawData: new Uint8Array(0) });
    if (rawData.length === 0) return [about];
    return [about, wireHeader(TENSOR_RAW_DATA, rawData.length), rawData];
  });
  return [
    encoded(front),
    ...tensors.flatMap((parts) => [wireHeader(GRAPH_INITIALIZER, lengthOf(parts)), ...parts]),
    encoded({ input, output }),
  ];
}

/** Not `concat`, whose parts are arguments: a model may have more weights than a call may have those. */
function joined(parts: readonly Uint8Array[]): Uint8Array {
  const whole = new Uint8Array(lengthOf(parts));
  let at = 0;
  for (const part of parts) {
    whole.set(part, at);
    at += part.length;
  }
  return whole;
}

function lengthOf(parts: readonly Uint8Array[]): number {
  return parts.reduce((sum, part) => sum + part.length, 0);
}

/**
 * The IR version that came with an operator set (ONNX, docs/Versioning.md); readers accept newer ones
 * less widely.
 */
function irVersionFor(opset: number): bigint {
  if (opset <= 18) return 8n;
  return opset <= 20 ? 9n : 10n;
}

/** Every domain that some node uses must be imported, inner graphs included. */
function domainsOf(graph: Graph): Set<string> {
  const domains = new Set<string>();
  for (const { domain, attributes } of graph.nodes) {
    if (domain !== "") domains.add(domain);
    for (const attribute of attributes.values()) {
      if (attribute.kind === "graph") for (const inner of domainsOf(attribute.value)) domains.add(inner);
    }
  }
  return domains;
}

/** Value infos of inner values are left out: every reader infers them, and stale ones are refused. */
function graphFields(graph: Graph) {
  return {
    name: graph.name || "tutti",
    input: graph.inputs.map(writeValueInfo),
    output: graph.outputs.map(writeValueInfo),
    initializer: [...graph.initializers].map(([name, tensor]) => writeTensor(name, tensor)),
    node: graph.nodes.map(writeNode),
  };
}

function writeGraph(graph: Graph): GraphProto {
  return create(GraphProtoSchema, graphFields(graph));
}

/**
 * Metadata goes back as it came: merge and resolve find module names there (docs/onnx.md, Fields and names).
 */
function writeNode(node: Node): NodeProto {
  const nested = {
    tensor: (value: Parameters<typeof writeTensor>[1]) => writeTensor("", value),
    graph: writeGraph,
  };
  return create(NodeProtoSchema, {
    opType: node.op,
    domain: node.domain,
    name: node.name,
    input: [...node.inputs],
    output: [...node.outputs],
    attribute: [...node.attributes].map(([name, value]) => writeAttribute(name, value, nested)),
    metadataProps: [...node.metadata].map(([key, value]) => ({ key, value })),
  });
}
