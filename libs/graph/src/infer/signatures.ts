import { Fault } from "@tutti/foundation/fault";
import type { DType, Node } from "../ir.ts";
import { describe, type Known } from "../site.ts";
import { MICROSOFT_SIGNATURES } from "./microsoft/signatures.ts";

/**
 * How many inputs an operator takes and which attributes it knows, over all operator sets from 6 on (ONNX,
 * Operators.md): `name fewest..most attributes`, `*` for any number. Between them, what inputs hold where an
 * operator means nothing else: `#1,2` integers, `~0` floats, `+0` numbers (but no truth values), `?0` those.
 */
const STANDARD_SIGNATURES = `
  Abs 1 +0
  Acos 1 ~0
  Acosh 1 ~0
  Add 2 +0,1
  And 2 ?0,1
  ArgMax 1 +0 axis keepdims select_last_index
  ArgMin 1 +0 axis keepdims select_last_index
  Asin 1 ~0
  Asinh 1 ~0
  Atan 1 ~0
  Atanh 1 ~0
  Attention 3..7 ~0,1,2 is_causal kv_num_heads q_num_heads qk_matmul_output_mode scale softcap
    softmax_precision
  AveragePool 1 ~0 auto_pad ceil_mode count_include_pad dilations kernel_shape pads strides
  BatchNormalization 5 ~0,1,2,3,4 epsilon is_test momentum spatial training_mode
  Cast 1 round_mode saturate to
  CastLike 2 round_mode saturate
  Ceil 1 ~0
  Celu 1 ~0 alpha
  Clip 1..3 +0 max min
  Col2Im 3 #1,2 dilations pads strides
  Concat 1..* axis
  ConstantOfShape 1 #0 value
  Conv 2..3 ~0,1 auto_pad dilations group kernel_shape pads strides
  ConvInteger 2..4 #0,1 auto_pad dilations group kernel_shape pads strides
  ConvTranspose 2..3 ~0,1 auto_pad dilations group kernel_shape output_padding output_shape pads strides
  Cos 1 ~0
  Cosh 1 ~0
  CumSum 2 +0 #1 exclusive reverse
  DepthToSpace 1 blocksize mode
  DequantizeLinear 2..3 axis block_size output_dtype
  Div 2 +0,1
  Dropout 1..3 ~0 is_test ratio seed
  DynamicQuantizeLinear 1 ~0
  Einsum 1..* +0,1 equation
  Elu 1 ~0 alpha
  Equal 2
  Erf 1 ~0
  Exp 1 ~0
  Expand 2 #1
  EyeLike 1 dtype k
  Flatten 1 axis
  Floor 1 ~0
  GRU 3..6 ~0,1,2 activation_alpha activation_beta activations clip direction hidden_size layout
    linear_before_reset output_sequence
  Gather 2 #1 axis
  GatherElements 2 #1 axis
  GatherND 2 #1 batch_dims
  Gelu 1 ~0 approximate
  Gemm 2..3 +0,1 alpha beta transA transB
  GlobalAveragePool 1 ~0
  GlobalLpPool 1 ~0 p
  GlobalMaxPool 1 ~0
  Greater 2 +0,1
  GreaterOrEqual 2 +0,1
  GroupNormalization 3 ~0,1,2 epsilon num_groups stash_type
  HardSigmoid 1 ~0 alpha beta
  HardSwish 1 ~0
  Hardmax 1 ~0 axis
  Identity 1
  InstanceNormalization 3 ~0,1,2 epsilon
  IsInf 1 ~0 detect_negative detect_positive
  IsNaN 1 ~0
  LRN 1 ~0 alpha beta bias size
  LSTM 3..8 ~0,1,2 activation_alpha activation_beta activations clip direction hidden_size input_forget
    layout output_sequence
  LayerNormalization 2..3 ~0,1 axis epsilon stash_type
  LeakyRelu 1 ~0 alpha
  Less 2 +0,1
  LessOrEqual 2 +0,1
  Log 1 ~0
  LogSoftmax 1 ~0 axis
  LpNormalization 1 ~0 axis p
  LpPool 1 ~0 auto_pad ceil_mode dilations kernel_shape p pads strides
  MatMul 2 +0,1
  MatMulInteger 2..4 #0,1
  Max 1..* +0,1
  MaxPool 1 +0 auto_pad ceil_mode dilations kernel_shape pads storage_order strides
  MaxUnpool 2..3 ~0 #1,2 kernel_shape pads strides
  Mean 1..* ~0
  MeanVarianceNormalization 1 ~0 axes
  Min 1..* +0,1
  Mish 1 ~0
  Mod 2 +0,1 fmod
  Mul 2 +0,1
  Neg 1 +0
  NegativeLogLikelihoodLoss 2..3 ~0 #1 ignore_index reduction
  NonZero 1
  Not 1 ?0
  OneHot 3 axis
  Or 2 ?0,1
  PRelu 2 +0,1
  Pad 1..4 #1,3 mode paddings pads value
  Pow 2 +0,1
  QLinearConv 8..9 auto_pad dilations group kernel_shape pads strides
  QLinearMatMul 8
  QuantizeLinear 2..3 +0 axis block_size output_dtype precision saturate
  RMSNormalization 2 ~0,1 axis epsilon stash_type
  RNN 3..6 ~0,1,2 activation_alpha activation_beta activations clip direction hidden_size layout
    output_sequence
  Range 3 +0,1,2 stash_type
  Reciprocal 1 ~0
  ReduceL1 1..2 +0 #1 axes keepdims noop_with_empty_axes
  ReduceL2 1..2 ~0 #1 axes keepdims noop_with_empty_axes
  ReduceLogSum 1..2 ~0 #1 axes keepdims noop_with_empty_axes
  ReduceLogSumExp 1..2 ~0 #1 axes keepdims noop_with_empty_axes
  ReduceMax 1..2 #1 axes keepdims noop_with_empty_axes
  ReduceMean 1..2 +0 #1 axes keepdims noop_with_empty_axes
  ReduceMin 1..2 #1 axes keepdims noop_with_empty_axes
  ReduceProd 1..2 +0 #1 axes keepdims noop_with_empty_axes
  ReduceSum 1..2 +0 #1 axes keepdims noop_with_empty_axes
  ReduceSumSquare 1..2 +0 #1 axes keepdims noop_with_empty_axes
  Relu 1 +0
  Reshape 1..2 #1 allowzero shape
  Resize 1..4 antialias axes coordinate_transformation_mode cubic_coeff_a exclude_outside
    extrapolation_value keep_aspect_ratio_policy mode nearest_mode
  RotaryEmbedding 3..4 ~0,1,2 interleaved num_heads rotary_embedding_dim
  Round 1 ~0
  ScatterElements 3 #1 axis reduction
  ScatterND 3 #1 reduction
  Selu 1 ~0 alpha gamma
  Shape 1 end start
  Shrink 1 +0 bias lambd
  Sigmoid 1 ~0
  Sign 1 +0
  SimplifiedLayerNormalization 2 ~0,1 axis epsilon stash_type
  Sin 1 ~0
  Sinh 1 ~0
  Size 1
  Slice 1..5 #1,2,3,4 axes ends starts
  Softmax 1 ~0 axis
  SoftmaxCrossEntropyLoss 2..3 ~0 #1 ignore_index reduction
  Softplus 1 ~0
  Softsign 1 ~0
  SpaceToDepth 1 blocksize
  Split 1..2 #1 axis num_outputs split
  Sqrt 1 ~0
  Squeeze 1..2 #1 axes
  Sub 2 +0,1
  Sum 1..* ~0
  Swish 1 ~0 alpha
  Tan 1 ~0
  Tanh 1 ~0
  ThresholdedRelu 1 ~0 alpha
  Tile 2..3 #1
  TopK 1..2 +0 #1 axis k largest sorted
  Transpose 1 perm
  Trilu 1..2 #1 upper
  Unsqueeze 1..2 #1 axes
  Upsample 1..2 mode scales
  Where 3 ?0
  Xor 2 ?0,1
`;

const INTEGERS: readonly DType[] = ["int64", "int32", "uint8", "int8"];
const FLOATS: readonly DType[] = ["float32", "float64", "float16"];

/** Kinds of content by the sign that stands for them. */
const KINDS = {
  "#": { called: "integers", dtypes: INTEGERS },
  "~": { called: "floats", dtypes: FLOATS },
  "+": { called: "numbers", dtypes: [...FLOATS, ...INTEGERS] },
  "?": { called: "truth values", dtypes: ["bool"] },
} satisfies Record<string, { called: string; dtypes: readonly DType[] }>;
type Kind = keyof typeof KINDS;

type Signature = {
  readonly fewest: number;
  readonly most: number;
  /** What inputs must hold, by index: indices, sizes and axes are integers, say. */
  readonly holds: readonly (readonly [index: number, kind: Kind])[];
  readonly attributes: ReadonlySet<string>;
};

const SIGNATURES: ReadonlyMap<string, ReadonlyMap<string, Signature>> = new Map([
  ["", parsed(STANDARD_SIGNATURES)],
  ["com.microsoft", parsed(MICROSOFT_SIGNATURES)],
]);

/** Operators begin a line with a capital; a line that does not goes on with the one before. */
function parsed(text: string): ReadonlyMap<string, Signature> {
  const lines = text
    .replaceAll(/\n {4}/g, " ")
    .trim()
    .split("\n");
  return new Map(
    lines.map((line) => {
      const [name = "", count = "", ...rest] = line.trim().split(" ");
      const kinds = rest.filter((word) => word[0]! in KINDS);
      const holds = kinds.flatMap((word) =>
        word
          .slice(1)
          .split(",")
          .map((index) => [Number(index), word[0] as Kind] as const),
      );
      const [fewest = "", most = fewest] = count.split("..");
      const bound = most === "*" ? Number.POSITIVE_INFINITY : Number(most);
      const attributes = new Set(rest.slice(kinds.length));
      return [name, { fewest: Number(fewest), most: bound, holds, attributes }];
    }),
  );
}

/** Every operator with a signature. */
export function signed(): readonly Pick<Node, "domain" | "op">[] {
  return [...SIGNATURES].flatMap(([domain, table]) => [...table.keys()].map((op) => ({ domain, op })));
}

export function signatureOf({ domain, op }: Pick<Node, "domain" | "op">): Signature | undefined {
  return SIGNATURES.get(domain)?.get(op);
}

/**
 * What every node is held to before its own rule reads it: an attribute nobody knows could change what the
 * node means, and an input too few or too many would go unnoticed where its rule looks only at the first.
 * @throws Fault("unsupported") for an attribute, Fault("bad-input") for inputs, naming the node.
 */
export function checkSignature(node: Node, known: Known): void {
  const signature = signatureOf(node);
  if (!signature) return;
  const { opset } = known;
  const { fewest, most, holds, attributes } = signature;
  const given = node.inputs.length;
  if (given < fewest || given > most || node.inputs.slice(0, fewest).includes("")) {
    const expected = fewest === most ? `${fewest}` : `${fewest} to ${most}`;
    const got = node.inputs.slice(0, fewest).includes("") ? "an empty one among those it needs" : `${given}`;
    throw new Fault("bad-input", `${describe(node, opset)}: inputs`, { expected, got });
  }
  for (const name of node.attributes.keys()) {
    if (attributes.has(name)) continue;
    const expected = attributes.size > 0 ? `one of ${[...attributes].join(", ")}` : "no attributes";
    throw new Fault("unsupported", `${describe(node, opset)}: attributes`, { expected, got: name });
  }
  for (const [index, kind] of holds) {
    const name = node.inputs[index] ?? "";
    const { called, dtypes } = KINDS[kind];
    if (name === "" || dtypes.some((dtype) => dtype === known.static(name).dtype)) continue;
    const got = known.static(name).dtype;
    throw new Fault("bad-input", `${describe(node, opset)}: input ${index}`, { expected: called, got });
  }
}
