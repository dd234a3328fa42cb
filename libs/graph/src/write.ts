import { create, encode } from "@tutti/wire/message";
import {
  type GraphProto,
  GraphProtoSchema,
  ModelProtoSchema,
  type NodeProto,
  NodeProtoSchema,
} from "@tutti/wire/onnx";
import type { Graph, Node } from "./ir.ts";
import { writeAttribute } from "./onnx/attribute.ts";
import { writeTensor } from "./onnx/tensor.ts";
import { writeValueInfo } from "./onnx/value-info.ts";

/** The bytes of an .onnx file with this graph; `read` gives the same graph back. */
export function write(graph: Graph): Uint8Array {
  const opsetImport = [{ domain: "", version: BigInt(graph.opset) }];
  for (const domain of domainsOf(graph)) opsetImport.push({ domain, version: 1n });
  const model = create(ModelProtoSchema, {
    irVersion: irVersionFor(graph.opset),
    opsetImport,
    producerName: "tutti",
    graph: writeGraph(graph),
  });
  return encode(ModelProtoSchema, model);
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
function writeGraph(graph: Graph): GraphProto {
  return create(GraphProtoSchema, {
    name: graph.name || "tutti",
    input: graph.inputs.map(writeValueInfo),
    output: graph.outputs.map(writeValueInfo),
    initializer: [...graph.initializers].map(([name, tensor]) => writeTensor(name, tensor)),
    node: graph.nodes.map(writeNode),
  });
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
