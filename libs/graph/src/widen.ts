import type { Attribute, Graph, Node, Tensor, ValueInfo } from "./ir.ts";
import { dtypeCode } from "./onnx/dtype.ts";
import { numbers, tensorOf } from "./tensor.ts";

/**
 * The same graph in float32 where the file has float16: weights, casts, inputs and outputs. Training needs
 * it, since gradients underflow in half and tfjs has no half at all. Inputs and outputs change dtype too.
 */
export function widened(graph: Graph): Graph {
  return {
    ...graph,
    inputs: graph.inputs.map(wideInfo),
    outputs: graph.outputs.map(wideInfo),
    initializers: new Map([...graph.initializers].map(([name, tensor]) => [name, wideTensor(tensor)])),
    nodes: graph.nodes.map(wideNode),
  };
}

function wideInfo(info: ValueInfo): ValueInfo {
  return info.dtype === "float16" ? { ...info, dtype: "float32" } : info;
}

/** Every half is a float32, so nothing is lost. */
function wideTensor(tensor: Tensor): Tensor {
  return tensor.dtype === "float16" ? tensorOf("float32", tensor.shape, numbers(tensor)) : tensor;
}

function wideNode(node: Node): Node {
  const attributes = new Map([...node.attributes].map(([name, value]) => [name, wideAttribute(name, value)]));
  return { ...node, attributes };
}

/** Element types stand in `to` (Cast), `dtype` (EyeLike) and `output_dtype` (QuantizeLinear). */
const TYPE_NAMES: ReadonlySet<string> = new Set(["to", "dtype", "output_dtype"]);

function wideAttribute(name: string, attribute: Attribute): Attribute {
  if (attribute.kind === "tensor") return { kind: "tensor", value: wideTensor(attribute.value) };
  if (attribute.kind === "graph") return { kind: "graph", value: widened(attribute.value) };
  const half = TYPE_NAMES.has(name) && attribute.kind === "int" && attribute.value === dtypeCode("float16");
  return half ? { kind: "int", value: dtypeCode("float32") } : attribute;
}
