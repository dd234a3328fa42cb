import { demand } from "@tutti/foundation/check";
import { Fault } from "@tutti/foundation/fault";
import { fromHalf } from "@tutti/graph/half";
import { type Graph, type Node, sizeOf, type Tensor } from "@tutti/graph/ir";
import { numbers } from "@tutti/graph/tensor";
import { trace } from "@tutti/graph/trace";
import { scaledProductOf } from "./find/ends.ts";
import { opOf, type Wires, wiresOf } from "./find/wires.ts";
import { transpose } from "./merge.ts";
import { type Emitter, fromFloat32 } from "./side-path.ts";
import type { SavedTensor, Use } from "./spec.ts";

/**
 * Quantised arithmetic around a weight that is trained whole. From the float value before it to the float
 * value after it, one float operator takes its place: the trained weight lies on no grid of integers.
 */
export type Product = {
  readonly op: "MatMul" | "Gather";
  /** What the float operator reads beside the weight: floats, or the ids of a look-up. */
  readonly reads: string;
  /** The float value whose place its result takes. */
  readonly gives: string;
  /** Factors of the weight's scale, each a constant of one element or one per column. */
  readonly scales: readonly string[];
  /** The weight's zero point, or "" for none. */
  readonly zero: string;
  /** A bias inside the quantised operator, or "". */
  readonly bias: string;
  readonly axis: number;
};

/** Undefined where the node reads its weight in floats, or stands in no pattern that we know. */
export function productOf(node: Node, input: number, wires: Wires): Product | undefined {
  const none = { zero: "", bias: "", axis: 0 };
  switch (opOf(node)) {
    case "MatMulInteger": {
      const found = input === 1 ? scaledProductOf(node, wires) : undefined;
      return found && { ...none, op: "MatMul", ...found, zero: node.inputs[3] ?? "" };
    }
    case "com.microsoft::DynamicQuantizeMatMul": {
      const [reads, , scale, zero = "", bias = ""] = node.inputs as [
        string,
        string,
        string,
        string?,
        string?,
      ];
      if (input !== 1) return undefined;
      return { ...none, op: "MatMul", reads, gives: node.outputs[0]!, scales: [scale], zero, bias };
    }
    case "Gather": {
      const rows = input === 0 ? wires.follower(node.outputs[0]!) : undefined;
      if (rows?.op !== "DequantizeLinear" || rows.inputs[0] !== node.outputs[0]) return undefined;
      const [, scale, zero = ""] = rows.inputs as [string, string, string?];
      const axis = node.attributes.get("axis");
      return {
        op: "Gather",
        reads: node.inputs[1]!,
        gives: rows.outputs[0]!,
        scales: [scale],
        zero,
        bias: "",
        axis: axis?.kind === "int" ? axis.value : 0,
      };
    }
    default:
      return undefined;
  }
}

/** Whether the product's weight is known in floats: a matrix, its scales and zero point constant. */
export function isKnown(
  { op, scales, zero }: Product,
  weight: Tensor,
  { graph, transposed }: Pick<Use, "transposed"> & { readonly graph: Graph },
): boolean {
  const [rows, columns] = weight.shape;
  if (weight.shape.length !== 2 || !weight.dtype.includes("int")) return false;
  const width = transposed ? rows : columns;
  return [...scales, ...(zero === "" ? [] : [zero])].every((name) => {
    const size = graph.initializers.get(name)?.shape;
    return size !== undefined && (sizeOf(size) === 1 || (op === "MatMul" && sizeOf(size) === width));
  });
}

/** Emits the float operator; `type` is ONNX's number of the base's floats, in which the result comes. */
export function floatProduct(
  build: Emitter,
  { op, reads, bias, axis }: Product,
  { weight, type }: { weight: string; type: number },
): string {
  const operand = fromFloat32(build, weight, type);
  if (op === "Gather") return build.emit("Gather", [operand, reads], { axis });
  const product = build.emit("MatMul", [reads, operand]);
  return bias === "" ? product : build.emit("Add", [product, bias]);
}

/** What stands where a use read the stored tensor: the trained one, turned as on its way there. */
export function turnedFor(build: Emitter, { transposed }: Use, name: string): string {
  return transposed ? build.emit("Transpose", [name], { perm: [1, 0] }) : name;
}

/**
 * The base's own values of a tensor that is trained whole, in floats and laid out as the file has them:
 * halves widened, levels dequantised (rounded to float32 once). Undefined where the graph is not the
 * resolved one.
 */
export function floatsOf(
  graph: Graph,
  { name, initializer, shape, uses }: SavedTensor,
): Float32Array | undefined {
  const tensor = graph.initializers.get(initializer);
  if (!tensor || sizeOf(tensor.shape) !== sizeOf(shape)) return undefined;
  if (tensor.dtype === "float32") return Float32Array.from(tensor.data as Float32Array);
  if (tensor.dtype === "float16") return Float32Array.from(tensor.data as Uint16Array, fromHalf);
  const [use] = uses as readonly [Use];
  const node = graph.nodes.find(({ outputs }) => outputs[0] === use.node);
  if (!node) return undefined;
  const product = productOf(node, use.input, wiresOf(graph));
  if (product) return dequantised(graph, tensor, { product, use });
  const read = folded(graph, node.inputs[use.input]!);
  demand(read, () => {
    return new Fault("unsupported", `saved ${name}`, {
      expected: "a weight that depends on constants alone",
    });
  });
  const values = Float32Array.from(numbers(read));
  return use.transposed ? transpose(values, read.shape) : values;
}

/** (level − zero)·scale, by column of what the node reads; scales multiply as float32. */
function dequantised(
  graph: Graph,
  { shape, ...tensor }: Tensor,
  { product: { scales, zero }, use }: { product: Product; use: Use },
): Float32Array | undefined {
  const all = [...scales, zero].map((name) => graph.initializers.get(name));
  const values = all.map((found) => (found ? numbers(found) : [0]));
  const zeros = values.pop()!;
  const columns = shape[1]!;
  const element = (list: readonly number[], column: number) => list[list.length === 1 ? 0 : column]!;
  return Float32Array.from(numbers({ shape, ...tensor }), (level, at) => {
    const column = use.transposed ? Math.floor(at / columns) : at % columns;
    const scale = values.reduce((whole, factor) => Math.fround(whole * element(factor, column)), 1);
    return (level - element(zeros, column)) * scale;
  });
}

/** A value that depends on constants alone. */
function folded(graph: Graph, name: string): Tensor | undefined {
  const makers = new Map(
    graph.nodes.flatMap((node) => node.outputs.map((output) => [output, node] as const)),
  );
  const needed = new Set<Node>();
  const need = (value: string) => {
    const maker = makers.get(value);
    if (!maker || needed.has(maker)) return;
    for (const input of maker.inputs) need(input);
    needed.add(maker);
  };
  need(name);
  const outputs = [{ name, dtype: "float32" as const, shape: null }];
  const traced = trace({ ...graph, inputs: [], outputs, nodes: [...needed] });
  return traced.initializers.get(name);
}
