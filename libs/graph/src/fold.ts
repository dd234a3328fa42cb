import { evaluateNode, evaluates } from "./evaluate/evaluate.ts";
import { type Node, type Static, sizeOf, type Tensor } from "./ir.ts";
import type { Known } from "./site.ts";

/** Elements a constant may always have, however it came about. */
const SMALL = 65_536;

/** Element operations one fold may cost; beyond, the node stays and an engine does it faster. */
const WORK = 50_000_000;

/**
 * The constants a node's outputs are, where all it reads is constant; undefined where it must run. Shape and
 * Size need only the shape. A fold that would grow memory (a broadcast of a constant) is left to the run.
 */
export function fold(node: Node, known: Known, statics: readonly Static[]): readonly Tensor[] | undefined {
  if (foldCost(node, known, statics) > WORK) return undefined;
  const constant = (name: string) => known.constant(name) ?? placeholder(known.static(name));
  return evaluateNode(node, { opset: known.opset, constant });
}

/** Element operations that folding a node takes; infinite where it cannot or should not be folded. */
export function foldCost(node: Node, known: Known, statics: readonly Static[]): number {
  if (!evaluates(node)) return Number.POSITIVE_INFINITY;
  if (SHAPE_ONLY.has(node.op)) return 1;
  const inputs = node.inputs.filter((name) => name !== "");
  if (inputs.some((name) => known.constant(name) === undefined)) return Number.POSITIVE_INFINITY;
  const read = inputs.reduce((sum, name) => sum + sizeOf(known.static(name).shape), 0);
  const made = statics.reduce((sum, { shape }) => sum + sizeOf(shape), 0);
  if (made > Math.max(SMALL, read)) return Number.POSITIVE_INFINITY;
  return Math.max(read, made * inner(node, known));
}

/** Operators that read nothing of their input but its shape. */
const SHAPE_ONLY: ReadonlySet<string> = new Set(["Shape", "Size"]);

/** Multiplications per output element of a product, or an upper bound of them. */
function inner(node: Node, known: Known): number {
  const size = (index: number) => sizeOf(known.static(node.inputs[index]!).shape);
  if (node.op === "MatMul" || node.op === "Gemm") return Math.max(1, ...known.static(node.inputs[0]!).shape);
  // Every weight or every combination of letters may meet every output: far too much, and so left alone.
  return INTENSIVE.has(node.op) ? node.inputs.reduce((most, _, i) => Math.max(most, size(i)), 1) : 1;
}

const INTENSIVE: ReadonlySet<string> = new Set([
  ...["Conv", "ConvTranspose", "Einsum", "MatMulInteger", "MatMulNBits"],
  ...["RNN", "GRU", "LSTM", "MaxPool", "AveragePool"],
]);

/** A tensor of which only dtype and shape will be read. */
function placeholder({ dtype, shape }: Static): Tensor {
  return { dtype, shape, data: [] };
}
