import { seededRandom } from "@tutti/foundation/random";
import { create, encode } from "@tutti/wire/message";
import { AttributeProto_AttributeType, ModelProtoSchema, NodeProtoSchema } from "@tutti/wire/onnx";
import { toHalf } from "../../graph/src/half.ts";
import {
  type Attribute,
  float32,
  type Graph,
  type Node,
  sizeOf,
  type Tensor,
  type Tensors,
} from "../../graph/src/ir.ts";
import { read } from "../../graph/src/read.ts";
import { tensorOf } from "../../graph/src/tensor.ts";
import { write } from "../../graph/src/write.ts";

/** A small base model as a file, with feeds for it. */
export type Base = { readonly bytes: Uint8Array; readonly feeds: Tensors };

type Init = number | string | readonly number[];

export function node(
  op: string,
  inputs: readonly string[],
  output: string,
  attributes: Readonly<Record<string, Init>> = {},
  name = "",
): Node {
  const entries = Object.entries(attributes).map(([key, value]): [string, Attribute] => {
    if (typeof value === "number") return [key, { kind: "int", value }];
    return [key, typeof value === "string" ? { kind: "string", value } : { kind: "ints", value }];
  });
  return {
    op,
    domain: "",
    name,
    inputs,
    outputs: [output],
    attributes: new Map(entries),
    metadata: new Map(),
  };
}

export function random(shape: readonly number[], seed: string): Tensor {
  const dice = seededRandom(seed);
  return float32(
    shape,
    Float32Array.from({ length: sizeOf(shape) }, () => dice.normal()),
  );
}

/** Weights by name and shape, or as given. */
type Weights = Readonly<Record<string, readonly number[] | Tensor>>;

export function base(
  nodes: readonly Node[],
  weights: Weights,
  inputs: Readonly<Record<string, Tensor>>,
  outputs: readonly string[] = ["y"],
): Base {
  const graph: Graph = {
    name: "base",
    opset: 17,
    inputs: Object.entries(inputs).map(([name, { dtype, shape }]) => ({ name, dtype, shape })),
    outputs: outputs.map((name) => ({ name, dtype: "float32", shape: null })),
    initializers: new Map(
      Object.entries(weights).map(([name, weight]) => [
        name,
        "data" in weight ? weight : random(weight, name),
      ]),
    ),
    nodes,
  };
  return { bytes: write(graph), feeds: new Map(Object.entries(inputs)) };
}

const x = (...shape: number[]) => ({ x: random(shape, "x") });

/** One linear module in every way a graph can hold it: in 5, out 4, on [3, 5]. */
export const LINEAR: Readonly<Record<string, Base>> = {
  "MatMul, weight right": base(
    [node("MatMul", ["x", "fc.weight"], "y")],
    { "fc.weight": [5, 4] },
    x(2, 3, 5),
  ),
  "MatMul, weight left": base([node("MatMul", ["fc.weight", "x"], "y")], { "fc.weight": [4, 5] }, x(2, 5, 3)),
  "MatMul on a vector": base([node("MatMul", ["x", "fc.weight"], "y")], { "fc.weight": [5, 4] }, x(5)),
  "MatMul then Add": base(
    [node("MatMul", ["x", "fc.weight"], "h"), node("Add", ["fc.bias", "h"], "y")],
    { "fc.weight": [5, 4], "fc.bias": [4] },
    x(2, 3, 5),
  ),
  "Gemm transB": base(
    [node("Gemm", ["x", "fc.weight", "fc.bias"], "y", { transB: 1 })],
    { "fc.weight": [4, 5], "fc.bias": [4] },
    x(3, 5),
  ),
  "Gemm plain": base([node("Gemm", ["x", "fc.weight"], "y")], { "fc.weight": [5, 4] }, x(3, 5)),
  "Gemm transA transB": base(
    [node("Gemm", ["x", "fc.weight"], "y", { transA: 1, transB: 1 })],
    { "fc.weight": [4, 5] },
    x(5, 3),
  ),
  "through Transpose": base(
    [node("Transpose", ["fc.weight"], "t", { perm: [1, 0] }), node("MatMul", ["x", "t"], "y")],
    { "fc.weight": [4, 5] },
    x(3, 5),
  ),
  "through Identity and Transpose, twice over": base(
    [
      node("Identity", ["fc.weight"], "i"),
      node("Transpose", ["i"], "t"),
      node("Identity", ["t"], "j"),
      node("Transpose", ["j"], "u"),
      node("MatMul", ["x", "u"], "y"),
    ],
    { "fc.weight": [5, 4] },
    x(3, 5),
  ),
  "through a Cast from float16": base(
    [node("Cast", ["fc.weight"], "c", { to: 1 }), node("MatMul", ["x", "c"], "y")],
    { "fc.weight": halves([5, 4]) },
    x(3, 5),
  ),
  "one module called twice": base(
    [
      node("MatMul", ["x", "fc.weight"], "h", {}, "/fc/MatMul"),
      node("Tanh", ["h"], "t"),
      node("MatMul", ["t", "fc.weight"], "y", {}, "/fc_1/MatMul"),
    ],
    { "fc.weight": [5, 5] },
    x(3, 5),
  ),
};

export function halves(shape: readonly number[]): Tensor {
  const data = Uint16Array.from(random(shape, "halves").data as Float32Array, toHalf);
  return { dtype: "float16", shape, data };
}

export const CONV: Readonly<Record<string, Base>> = {
  "3×3 with stride and padding": conv({ strides: [2, 1], pads: [1, 0, 1, 2] }),
  "3×3 dilated": conv({ dilations: [2, 2], kernel_shape: [3, 3] }),
  "3×3 auto_pad": conv({ auto_pad: "SAME_UPPER", strides: [2, 2] }),
  "1-D": base(
    [node("Conv", ["x", "fc.weight"], "y", { pads: [1, 1] })],
    { "fc.weight": [4, 5, 3] },
    x(2, 5, 9),
  ),
};

function conv(attributes: Readonly<Record<string, Init>>): Base {
  const weights = { "fc.weight": [4, 5, 3, 3], "fc.bias": [4] };
  return base([node("Conv", ["x", "fc.weight", "fc.bias"], "y", attributes)], weights, x(2, 5, 8, 7));
}

const ids = { ids: tensorOf("int64", [2, 3], [0, 6, 3, 3, 1, 5]) };

export const TABLE: Readonly<Record<string, Base>> = {
  table: base([node("Gather", ["fc.weight", "ids"], "y")], { "fc.weight": [7, 4] }, ids),
};

/** Tied weights: a table that is also the head, its transpose on the way. */
export const TIED = base(
  [
    node("Gather", ["emb.weight", "ids"], "h", {}, "/emb/Gather"),
    node("Transpose", ["emb.weight"], "t", { perm: [1, 0] }),
    node("MatMul", ["h", "t"], "y", {}, "/head/MatMul"),
  ],
  { "emb.weight": [7, 4] },
  ids,
);

/** Two layers, a norm between; the two biases are one tensor, as torch merges equal ones. */
export const TWO = base(
  [
    node("Gemm", ["x", "a.weight", "zero"], "h", { transB: 1 }, "/m/m.0/Gemm"),
    node("LayerNormalization", ["h", "n.weight", "zero"], "n", { axis: -1 }, "/m/norm/LayerNormalization"),
    node("MatMul", ["n", "onnx::MatMul_7"], "p", {}, "/m/head/MatMul"),
    node("Add", ["p", "zero"], "y", {}, "/m/head/Add"),
  ],
  { "a.weight": [4, 5], "n.weight": [4], "onnx::MatMul_7": [4, 4], zero: [4] },
  x(3, 5),
);

/** The same model with its float weights in float_data, or as Constant nodes. */
export function stored({ bytes, feeds }: Base, how: "float_data" | "Constant"): Base {
  const { proto } = read(bytes);
  const graph = proto.graph!;
  for (const tensor of graph.initializer.filter(({ dataType }) => dataType === 1)) {
    tensor.floatData = Array.from(new Float32Array(new Uint8Array(tensor.rawData).buffer));
    tensor.rawData = new Uint8Array();
  }
  if (how === "float_data") return { bytes: encode(ModelProtoSchema, proto), feeds };
  const constants = graph.initializer.map((tensor) => {
    return create(NodeProtoSchema, {
      opType: "Constant",
      output: [tensor.name],
      attribute: [{ name: "value", type: AttributeProto_AttributeType.TENSOR, t: tensor }],
    });
  });
  graph.node = [...constants, ...graph.node];
  graph.initializer = [];
  return { bytes: encode(ModelProtoSchema, proto), feeds };
}
