import type { Node } from "@tutti/graph/ir";
import { opOf, type Wires } from "./wires.ts";

/**
 * Where a side path begins and ends in a graph. Around a weight in floats that is the node's own input and
 * output. Around a quantised one it is the last float value before and the first one after, so that factors
 * work in floats and the base's integer arithmetic stays as it is (docs/onnx.md, Quantised layouts).
 */
export type SidePathEnds =
  | {
      readonly way: "sum-output";
      /** What A reads. */
      readonly reads: Value;
      /** What the path's result is added to: readers of `adds` read the sum. */
      readonly adds: Value;
    }
  /** The product itself is added to the weight, where the node's output is not linear in it. */
  | { readonly way: "sum-weight" };

/** A value's name; with `levels` it holds integers, of which `scale` and `zero` ("" for none) make floats. */
export type Value = {
  readonly name: string;
  readonly levels?: { readonly scale: string; readonly zero: string };
};

/** Undefined where the node stands in no pattern that we know. `input` holds the weight. */
export function endsOf(node: Node, input: number, wires: Wires): SidePathEnds | undefined {
  const op = opOf(node);
  if (SUM_WEIGHT.has(op)) return { way: "sum-weight" };
  const reads = valueRead(node, input, wires);
  const adds = valueAddedTo(node, wires);
  return reads && adds ? { way: "sum-output", reads, adds } : undefined;
}

/** An activation, or attention, follows the product inside of one operator. */
const SUM_WEIGHT: ReadonlySet<string> = new Set(["com.microsoft::FusedGemm", "com.microsoft::Attention"]);

function valueRead(node: Node, input: number, wires: Wires): Value | undefined {
  switch (opOf(node)) {
    case "MatMulInteger":
    case "ConvInteger":
    case "com.microsoft::MatMulIntegerToFloat":
      return quantisedBy(node.inputs[0]!, wires);
    case "QLinearMatMul":
    case "QLinearConv":
    case "com.microsoft::QGemm":
      return levelsBefore(node, wires);
    default:
      return { name: node.inputs[input === 0 ? 1 : 0]! };
  }
}

function valueAddedTo(node: Node, wires: Wires): Value | undefined {
  const [output] = node.outputs as readonly [string];
  switch (opOf(node)) {
    case "MatMulInteger":
    case "ConvInteger":
      return named(scaledBy(node, wires));
    case "QLinearMatMul":
    case "QLinearConv":
      return levelsAfter(node, 6, wires);
    case "com.microsoft::QGemm":
      return node.inputs[7] ? levelsAfter(node, 7, wires) : { name: output };
    default:
      return floatAfter(output, wires);
  }
}

function named(scaled: Scaled | undefined): Value | undefined {
  return scaled && { name: scaled.name };
}

/** The floats of which a quantiser made `name`. */
function quantisedBy(name: string, wires: Wires): Value | undefined {
  const maker = wires.maker(name);
  const quantises = maker?.op === "DynamicQuantizeLinear" || maker?.op === "QuantizeLinear";
  return quantises && maker.outputs[0] === name ? { name: maker.inputs[0]! } : undefined;
}

/**
 * int32 → Cast → Mul, once or twice: dynamic quantisation scales the sums of products back, by the scale of
 * what was quantised and by the weight's. What comes after both is no business of the product any more.
 */
function scaledBy(node: Node, wires: Wires): Scaled | undefined {
  const cast = followerOf(node.outputs[0]!, "Cast", wires);
  const missing = new Set(["weight"]);
  if (wires.maker(node.inputs[0]!)?.op === "DynamicQuantizeLinear") missing.add("input");
  const weight: string[] = [];
  let at = cast?.outputs[0];
  while (at !== undefined && missing.size > 0) {
    const mul = wires.follower(at);
    const other = mul?.inputs.find((name) => name !== at);
    const scales = mul?.op === "Mul" && other !== undefined ? scalesOf(other, wires) : undefined;
    if (!mul || !scales) return undefined;
    for (const scale of scales) missing.delete(scale.of);
    weight.push(...scales.flatMap(({ of, name }) => (of === "weight" ? [name] : [])));
    at = mul.outputs[0];
  }
  return at === undefined ? undefined : { name: at, weight };
}

/** The value behind all scales, and what the weight's scale is made of. */
type Scaled = { readonly name: string; readonly weight: readonly string[] };

/** Whose scales a factor is made of; undefined where of anything else. */
function scalesOf(
  name: string,
  wires: Wires,
): readonly { readonly of: "input" | "weight"; readonly name: string }[] | undefined {
  const maker = wires.maker(name);
  if (!maker || maker.op === "Constant") return [{ of: "weight", name }];
  if (maker.op === "DynamicQuantizeLinear") return [{ of: "input", name }];
  const parts = maker.op === "Mul" ? maker.inputs.map((part) => scalesOf(part, wires)) : [undefined];
  return parts.some((part) => part === undefined) ? undefined : parts.flatMap((part) => part ?? []);
}

/**
 * The floats around a dynamically quantised product, and the scales of its weight. Where the input's scale is
 * a constant too, no factor tells which of the two it belongs to.
 */
export function scaledProductOf(
  node: Node,
  wires: Wires,
): { readonly reads: string; readonly gives: string; readonly scales: readonly string[] } | undefined {
  const quantiser = wires.maker(node.inputs[0]!);
  const scaled = quantiser?.op === "DynamicQuantizeLinear" ? scaledBy(node, wires) : undefined;
  return scaled && { reads: quantiser!.inputs[0]!, gives: scaled.name, scales: scaled.weight };
}

/** The only reader of a value, if it is this operator and reads it first. */
function followerOf(name: string, op: string, wires: Wires): Node | undefined {
  const next = wires.follower(name);
  return next?.op === op && next.inputs[0] === name ? next : undefined;
}

/** QLinear operators begin with x, x's scale and its zero point. */
function levelsBefore({ inputs }: Node, wires: Wires): Value {
  const [name, scale, zero] = inputs as readonly [string, string, string];
  return quantisedBy(name, wires) ?? { name, levels: { scale, zero } };
}

/** y's scale is input `at`, its zero point the next; floats where nothing but their making follows. */
function levelsAfter({ inputs, outputs }: Node, at: number, wires: Wires): Value {
  const [name] = outputs as readonly [string];
  const float = followerOf(name, "DequantizeLinear", wires);
  if (float) return { name: float.outputs[0]! };
  return { name, levels: { scale: inputs[at]!, zero: inputs[at + 1] ?? "" } };
}

/**
 * The sum stands behind a pair that quantises the output, so that the pair's grid does not bound the delta;
 * so it does where a table of integers is looked up and the rows dequantised.
 */
function floatAfter(name: string, wires: Wires): Value {
  const levels = followerOf(name, "QuantizeLinear", wires)?.outputs[0] ?? name;
  return { name: followerOf(levels, "DequantizeLinear", wires)?.outputs[0] ?? name };
}
