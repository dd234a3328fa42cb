import { evaluateNode, evaluates } from "./evaluate/evaluate.ts";
import { type Node, type Static, sizeOf, type Tensor } from "./ir.ts";
import type { Known } from "./site.ts";

/** Elements a constant may always have, however it came about. */
const SMALL = 65_536;

/** Multiplications a fold may cost; beyond, the node stays and an engine does it faster. */
const WORK = 50_000_000;

/**
 * The constants a node's outputs are, where all it reads is constant; undefined where it must run. Shape and
 * Size need only the shape. A fold that would grow memory (a broadcast of a constant) is left to the run.
 */
export function fold(node: Node, known: Known, statics: readonly Static[]): readonly Tensor[] | undefined {
  if (!evaluates(node)) return undefined;
  const asked = node.op === "Shape" || node.op === "Size";
  const inputs = node.inputs.filter((name) => name !== "");
  const constants = inputs.map((name) => known.constant(name));
  if (!asked && constants.some((tensor) => tensor === undefined)) return undefined;
  const read = asked ? 0 : inputs.reduce((sum, name) => sum + sizeOf(known.static(name).shape), 0);
  const made = statics.reduce((sum, { shape }) => sum + sizeOf(shape), 0);
  if (made > Math.max(SMALL, read) || made * inner(node, known) > WORK) return undefined;
  const constant = (name: string) => known.constant(name) ?? placeholder(known.static(name));
  return evaluateNode(node, { opset: known.opset, constant });
}

/** Multiplications per output element of a product, or an upper bound of them. */
function inner(node: Node, known: Known): number {
  if (node.op === "MatMul" || node.op === "Gemm") return Math.max(1, ...known.static(node.inputs[0]!).shape);
  return node.op.startsWith("Conv") ? sizeOf(known.static(node.inputs[1]!).shape) : 1;
}

/** A tensor of which only dtype and shape will be read. */
function placeholder({ dtype, shape }: Static): Tensor {
  return { dtype, shape, data: [] };
}
