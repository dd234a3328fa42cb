import { checkInteger, demand } from "@tutti/foundation/check";
import { Fault } from "@tutti/foundation/fault";
import type { SeededRandom } from "@tutti/foundation/random";
import type { Graph } from "../ir.ts";
import { dtypeCode } from "../onnx/dtype.ts";
import { type Activation, info, Sketch } from "./sketch.ts";

export type TransformerOptions = {
  /** An encoder sees every token of an `attention_mask`; in a decoder each token sees those before it. */
  readonly kind: "encoder" | "decoder";
  readonly layers: number;
  /** Numbers per token. */
  readonly width: number;
  /** Attention heads; they share the width evenly. */
  readonly heads: number;
  readonly vocabulary: number;
  /** Most tokens a text may have: rows of the table of positions. */
  readonly length: number;
  /** Width between the two linear layers after attention; four times the width by default. */
  readonly feedForward?: number;
  /**
   * What is answered: logits [batch, classes] of each text, or logits [batch, length, vocabulary] of each
   * token (of a decoder: the next one).
   */
  readonly head: { readonly classes: number } | "tokens";
  readonly activation?: Activation;
  readonly random: SeededRandom;
  readonly outputName?: string;
};

/** What a layer needs to know of the model; `bias` is added to all attention scores. */
type Shape = {
  readonly width: number;
  readonly heads: number;
  readonly feedForward: number;
  readonly activation: Activation;
  readonly bias: string;
};

const MAX_SIZE = 1 << 24;
const EPSILON = 1e-5;
/** A masked score: the lowest float, as in Hugging Face's models, and not −inf, which would make NaN. */
const HIDDEN = -3.4028234663852886e38;

/**
 * A transformer with a symbolic batch and length (at most `length`), from `input_ids` int64 [batch, length]
 * and, for an encoder, `attention_mask` int64 [batch, length] (1 for a token, 0 for padding). Encoders
 * normalise after each sum (Vaswani et al. 2017, section 3.1; BERT) and read a text by its first token,
 * decoders before each part and once at the end (GPT-2) and read it by its last. Modules: `embeddings.word`,
 * `embeddings.position`, `encoder.layer.<i>.attention.query|key|value|output`,
 * `encoder.layer.<i>.intermediate|output` (or `decoder.…`), `pooler` (encoders), `classifier` or `lm_head`.
 * @throws Fault("bad-input") for a size that is not a positive number, or a width that the heads do not
 * divide.
 */
export function transformer(options: TransformerOptions): Graph {
  const { kind, layers, width, heads, activation = "gelu", head } = options;
  const feedForward = options.feedForward ?? 4 * width;
  const outputName = options.outputName ?? "logits";
  check({ ...options, feedForward });
  const sketch = new Sketch(options.random);
  const size = shapeNames(sketch);
  let x = embedded(sketch, options, size.length);
  const bias = kind === "encoder" ? paddingBias(sketch) : causalBias(sketch, size.length);
  const shape: Shape = { width, heads, feedForward, activation, bias };
  const block = kind === "encoder" ? normalisedAfter : normalisedBefore;
  for (let layer = 0; layer < layers; layer++)
    x = block(sketch, x, { module: `${kind}.layer.${layer}`, shape });
  if (kind === "decoder") x = normalised(sketch, x, { module: `${kind}.norm`, width });
  const logits =
    head === "tokens"
      ? tokens(sketch, x, { ...options, outputName })
      : classes(sketch, x, { ...options, outputName });
  const text = (name: string) => info(name, "int64", ["batch", "length"]);
  return sketch.finish(kind, {
    inputs: kind === "encoder" ? [text("input_ids"), text("attention_mask")] : [text("input_ids")],
    outputs: [info(outputName, "float32", ["batch", ...logits])],
  });
}

function check(options: TransformerOptions & { feedForward: number }): void {
  const { width, heads, head } = options;
  for (const key of ["layers", "width", "heads", "vocabulary", "length", "feedForward"] as const)
    checkInteger(`transformer: ${key}`, options[key], [1, MAX_SIZE]);
  if (head !== "tokens") checkInteger("transformer: classes", head.classes, [1, MAX_SIZE]);
  const expected = `a multiple of the ${heads} heads`;
  demand(
    width % heads === 0,
    () => new Fault("bad-input", "transformer: width", { expected, got: `${width}` }),
  );
}

/** The text's own length, as a vector of one and as a scalar. */
type Length = { readonly vector: string; readonly scalar: string };

function shapeNames(sketch: Sketch): { readonly length: Length } {
  const module = "embeddings";
  const all = sketch.op("Shape", ["input_ids"], { module });
  const vector = sketch.op("Gather", [all, sketch.ints([1])], { module, attributes: { axis: 0 } });
  const scalar = sketch.op("Gather", [all, sketch.int(1)], { module, attributes: { axis: 0 } });
  return { length: { vector, scalar } };
}

/** Word plus position; an encoder's sum is normalised. */
function embedded(sketch: Sketch, options: TransformerOptions, length: Length): string {
  const { kind, width, vocabulary } = options;
  const module = "embeddings";
  const words = sketch.normal("embeddings.word.weight", [vocabulary, width], 0.02);
  const places = sketch.normal("embeddings.position.weight", [options.length, width], 0.02);
  const word = sketch.op("Gather", [words, "input_ids"], { module: "embeddings.word" });
  const bounds = [sketch.ints([0]), length.vector, sketch.ints([0])];
  const place = sketch.op("Slice", [places, ...bounds], { module: "embeddings.position" });
  const sum = sketch.op("Add", [word, place], { module });
  return kind === "encoder" ? normalised(sketch, sum, { module: "embeddings.norm", width }) : sum;
}

/** 0 for tokens and the lowest float for padding: [batch, 1, 1, length]. */
function paddingBias(sketch: Sketch): string {
  const module = "encoder.mask";
  const wide = sketch.op("Unsqueeze", ["attention_mask", sketch.ints([1, 2])], { module });
  const mask = sketch.op("Cast", [wide], { module, attributes: { to: dtypeCode("float32") } });
  const absent = sketch.op("Sub", [sketch.number(1), mask], { module });
  return sketch.op("Mul", [absent, sketch.number(HIDDEN)], { module });
}

/** The same for tokens that come later: [length, length]; a constant once the length is known. */
function causalBias(sketch: Sketch, length: Length): string {
  const module = "decoder.mask";
  const places = sketch.op("Range", [sketch.int(0), length.scalar, sketch.int(1)], { module });
  const rows = sketch.op("Unsqueeze", [places, sketch.ints([1])], { module });
  const later = sketch.op("Less", [rows, places], { module });
  return sketch.op("Where", [later, sketch.number(HIDDEN), sketch.number(0)], { module });
}

type Layer = { readonly module: string; readonly shape: Shape };

/** x = norm(x + attention(x)); x = norm(x + feedForward(x)). */
function normalisedAfter(sketch: Sketch, x: string, { module, shape }: Layer): string {
  const { width } = shape;
  const attended = attention(sketch, x, { module: `${module}.attention`, shape });
  const sum = sketch.op("Add", [attended, x], { module: `${module}.attention` });
  const middle = normalised(sketch, sum, { module: `${module}.attention.norm`, width });
  const fed = feedForwardOf(sketch, middle, { module, shape });
  return normalised(sketch, sketch.op("Add", [fed, middle], { module }), { module: `${module}.norm`, width });
}

/** x += attention(norm(x)); x += feedForward(norm(x)). */
function normalisedBefore(sketch: Sketch, x: string, { module, shape }: Layer): string {
  const { width } = shape;
  const first = normalised(sketch, x, { module: `${module}.attention.norm`, width });
  const attended = attention(sketch, first, { module: `${module}.attention`, shape });
  const middle = sketch.op("Add", [x, attended], { module: `${module}.attention` });
  const second = normalised(sketch, middle, { module: `${module}.norm`, width });
  return sketch.op("Add", [middle, feedForwardOf(sketch, second, { module, shape })], { module });
}

/** softmax(QKᵀ/√d + bias)·V by heads (Vaswani et al. 2017, section 3.2). */
function attention(sketch: Sketch, x: string, { module, shape }: Layer): string {
  const { width, heads } = shape;
  const head = width / heads;
  const linear = (name: string, from: string) =>
    sketch.linear(`${module}.${name}`, from, { fanIn: width, fanOut: width });
  const split = (name: string, perm: readonly number[]) => {
    const parts = sketch.op("Reshape", [linear(name, x), sketch.ints([0, 0, heads, head])], { module });
    return sketch.op("Transpose", [parts], { module, attributes: { perm } });
  };
  // The scale goes to the query, the smallest of what it may multiply.
  const query = sketch.op("Mul", [split("query", [0, 2, 1, 3]), sketch.number(1 / Math.sqrt(head))], {
    module,
  });
  const scores = sketch.op("MatMul", [query, split("key", [0, 2, 3, 1])], { module });
  const biased = sketch.op("Add", [scores, shape.bias], { module });
  const shares = sketch.op("Softmax", [biased], { module, attributes: { axis: -1 } });
  const mixed = sketch.op("MatMul", [shares, split("value", [0, 2, 1, 3])], { module });
  const turned = sketch.op("Transpose", [mixed], { module, attributes: { perm: [0, 2, 1, 3] } });
  return linear("output", sketch.op("Reshape", [turned, sketch.ints([0, 0, width])], { module }));
}

function feedForwardOf(sketch: Sketch, x: string, { module, shape }: Layer): string {
  const { width, feedForward, activation } = shape;
  const wide = sketch.linear(`${module}.intermediate`, x, { fanIn: width, fanOut: feedForward });
  const bent = sketch.activation(`${module}.intermediate`, wide, activation);
  return sketch.linear(`${module}.output`, bent, { fanIn: feedForward, fanOut: width });
}

function normalised(sketch: Sketch, x: string, { module, width }: { module: string; width: number }): string {
  const scale = sketch.filled(`${module}.weight`, [width], 1);
  const bias = sketch.filled(`${module}.bias`, [width], 0);
  const attributes = { axis: -1, epsilon: { float: EPSILON } };
  return sketch.op("LayerNormalization", [x, scale, bias], { module, attributes });
}

type Head = TransformerOptions & { readonly outputName: string };
type Sizes = readonly (number | string)[];

function tokens(sketch: Sketch, x: string, { width, vocabulary, outputName }: Head): Sizes {
  sketch.linear("lm_head", x, { fanIn: width, fanOut: vocabulary, as: outputName });
  return ["length", vocabulary];
}

function classes(sketch: Sketch, x: string, { kind, width, head, outputName }: Head): Sizes {
  const fanOut = head === "tokens" ? 0 : head.classes;
  const place = sketch.int(kind === "encoder" ? 0 : -1);
  const one = sketch.op("Gather", [x, place], { module: "pooler", attributes: { axis: 1 } });
  const pooled =
    kind === "encoder"
      ? sketch.activation("pooler", sketch.gemm("pooler", one, { fanIn: width, fanOut: width }), "tanh")
      : one;
  sketch.gemm("classifier", pooled, { fanIn: width, fanOut, as: outputName });
  return [fanOut];
}
