import type { Node } from "@tutti/graph/ir";
import { opOf, type Wires } from "./wires.ts";

/**
 * Where a side path begins and ends in a graph. Around a weight in floats that is the node's own input and
 * output. Around a quantised one it is the last float value before and the first one after, so that factors
 * work in floats and the base's integer arithmetic stays as it is (docs/onnx.md, Quantised layouts).
 */
export type Ends =
  | {
      readonly way: "beside";
      /** What A reads. */
      readonly reads: Value;
      /** What the path's result is added to: readers of `adds` read the sum. */
      readonly adds: Value;
    }
  /** The product itself is added to the weight, where the node's output is not linear in it. */
  | { readonly way: "weight" };

/** A value's name; with `scale` it holds integers, of which `scale` and `zero` (may be "") make floats. */
export type Value = {
  readonly name: string;
  readonly levels?: { readonly scale: string; readonly zero: string };
};

/** Undefined where the node stands in no pattern that we know. `input` holds the weight. */
export function endsOf(node: Node, input: number, wires: Wires): Ends | undefined {
  const op = opOf(node);
  if (op === "com.microsoft::FusedGemm" || op === "com.microsoft::Attention") return { way: "weight" };
  const [reads, adds] = INTEGER.has(op)
    ? [quantisedBy(node.inputs[0]!, wires), scaledBy(node.outputs[0]!, wires)]
    : op.startsWith("QLinear")
      ? [levelsBefore(node, wires), levelsAfter(node, wires)]
      : [{ name: node.inputs[input === 0 ? 1 : 0]! }, floatAfter(node.outputs[0]!, wires)];
  return reads && adds ? { way: "beside", reads, adds } : undefined;
}

/** Products of integers whose int32 result is scaled to floats by the nodes that follow. */
const INTEGER: ReadonlySet<string> = new Set(["MatMulInteger", "ConvInteger"]);

/** The floats of which a quantiser made `name`. */
function quantisedBy(name: string, wires: Wires): Value | undefined {
  const maker = wires.maker(name);
  const quantises = maker?.op === "DynamicQuantizeLinear" || maker?.op === "QuantizeLinear";
  return quantises && maker.outputs[0] === name ? { name: maker.inputs[0]! } : undefined;
}

/** int32 → Cast → Mul: dynamic quantisation scales the sums of products back. */
function scaledBy(name: string, wires: Wires): Value | undefined {
  const cast = wires.follower(name);
  const scaled = cast?.op === "Cast" ? wires.follower(cast.outputs[0]!) : undefined;
  return scaled?.op === "Mul" ? { name: scaled.outputs[0]! } : undefined;
}

/** QLinear operators: inputs x, x's scale and zero point, w, its scale and zero point, y's scale and zero. */
function levelsBefore({ inputs }: Node, wires: Wires): Value {
  const [name, scale, zero] = inputs as readonly [string, string, string];
  return quantisedBy(name, wires) ?? { name, levels: { scale, zero } };
}

function levelsAfter({ inputs, outputs }: Node, wires: Wires): Value {
  const [name] = outputs as readonly [string];
  const float = wires.follower(name);
  if (float?.op === "DequantizeLinear") return { name: float.outputs[0]! };
  return { name, levels: { scale: inputs[6]!, zero: inputs[7]! } };
}

/**
 * The sum stands behind a pair that quantises the output, so that the pair's grid does not bound the delta;
 * so it does where a table of integers is looked up and the rows dequantised.
 */
function floatAfter(name: string, wires: Wires): Value {
  const next = wires.follower(name);
  const levels = next?.op === "QuantizeLinear" ? next.outputs[0]! : name;
  const float = wires.follower(levels);
  return { name: float?.op === "DequantizeLinear" ? float.outputs[0]! : name };
}
