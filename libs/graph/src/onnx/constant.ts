import { Fault } from "@tutti/foundation/fault";
import type { Node, Tensor } from "../ir.ts";
import { describe } from "../site.ts";
import { int64, tensorOf } from "../tensor.ts";

/** The tensor of a Constant node, whichever of its attributes holds it (Constant, since version 12). */
export function constantTensor(node: Node, opset: number): Tensor {
  const [[name, attribute] = ["", undefined]] = node.attributes;
  switch (attribute?.kind) {
    case "tensor":
      return attribute.value;
    case "float":
      return tensorOf("float32", [], [attribute.value]);
    case "floats":
      return tensorOf("float32", [attribute.value.length], attribute.value);
    case "int":
      return int64([attribute.value], []);
    case "ints":
      return int64(attribute.value);
    case "string":
      return { dtype: "string", shape: [], data: [attribute.value] };
    case "strings":
      return { dtype: "string", shape: [attribute.value.length], data: attribute.value };
    default:
      throw new Fault("unsupported", describe(node, opset), {
        expected: "a dense value",
        got: name || "none",
      });
  }
}
