import { unreachable } from "@tutti/foundation/check";
import type { AttributeInit, Builder } from "@tutti/graph/builder";
import type { Node } from "@tutti/graph/ir";
import { dtypeCode } from "@tutti/graph/onnx/dtype";
import type { Value } from "./find/ends.ts";
import { opOf } from "./find/wires.ts";
import type { AdaptedModule, Use } from "./spec.ts";

/** All that the paths below need of a builder: in a traced graph (inject) or in a file (attach). */
export type Emitter = Pick<Builder, "emit">;

/** One use of a target, with the factors: A [r, in, …kernel], and B [out, r, 1…] with the scale in it. */
export type Target = {
  readonly node: Node;
  readonly use: Use;
  readonly module: Pick<AdaptedModule, "kind" | "layout">;
  readonly a: string;
  readonly b: string;
};

/**
 * TensorProto.DataType of the floats that a base computes in: they are cast to the factors' float32 and back.
 * Undefined where the factors were cast to them instead.
 */
export type FloatCode = number | undefined;
const FLOAT32 = dtypeCode("float32");

/**
 * Emits B(Ax), of the shape of the node's output, and returns its name: two thin products, (in + out)·rank
 * per row rather than in·out. B·A is never formed. Transposes stand alone, since engines are slow at products
 * that transpose (docs/onnx.md, Operators).
 */
export function sidePath(build: Emitter, target: Target, x: string): string {
  const { kind } = target.module;
  switch (kind) {
    case "linear":
      return isLeft(target) ? fromLeft(build, target, x) : linear(build, target, x);
    case "conv":
      return convolution(build, target, x);
    case "embedding":
      return lookup(build, target, x);
    default:
      return unreachable(kind);
  }
}

/** A float32 value in another type. */
export function fromFloat32(build: Emitter, name: string, type: number): string {
  return cast(build, name, { from: FLOAT32, to: type });
}

/** The value in floats: dequantised, and cast where the base computes in another type than the factors. */
export function asFactors(build: Emitter, { name, levels }: Value, type: FloatCode): string {
  const float = levels ? build.emit("DequantizeLinear", operands(name, levels)) : name;
  return type === undefined ? float : cast(build, float, { from: type, to: FLOAT32 });
}

/** `adds` plus the delta, as `adds` is held: quantised again, or cast back. */
export function sum(build: Emitter, adds: Value, delta: { name: string; type: FloatCode }): string {
  const total = build.emit("Add", [asFactors(build, adds, delta.type), delta.name]);
  const held = delta.type === undefined ? total : fromFloat32(build, total, delta.type);
  return adds.levels ? build.emit("QuantizeLinear", operands(held, adds.levels)) : held;
}

/** The weight plus B·A, laid out as the node reads it. */
export function summedWeight(build: Emitter, target: Target, type: FloatCode): string {
  const { node, use, module, a, b } = target;
  const inOut = (module.layout === "in-out") !== use.transposed;
  const product = inOut
    ? build.emit("MatMul", [transposed(build, a), transposed(build, b)])
    : build.emit("MatMul", [b, a]);
  return sum(build, { name: node.inputs[use.input]! }, { name: product, type });
}

function operands(name: string, { scale, zero }: NonNullable<Value["levels"]>): readonly string[] {
  return zero === "" ? [name, scale] : [name, scale, zero];
}

function cast(build: Emitter, name: string, { from, to }: { from: number; to: number }): string {
  return from === to ? name : build.emit("Cast", [name], { to });
}

/** Products whose left operand is the weight: y = W·x. */
export function isLeft({ node, use }: Pick<Target, "node" | "use">): boolean {
  return use.input === 0 && node.op.includes("MatMul");
}

/** (x·Aᵀ)·Bᵀ for products with the weight right and for both kinds of Gemm. */
function linear(build: Emitter, { node, a, b }: Target, x: string): string {
  const rows = node.op.endsWith("Gemm") && intOf(node, "transA") === 1 ? transposed(build, x) : x;
  return build.emit("MatMul", [build.emit("MatMul", [rows, transposed(build, a)]), transposed(build, b)]);
}

function fromLeft(build: Emitter, { a, b }: Target, x: string): string {
  return build.emit("MatMul", [b, build.emit("MatMul", [a, x])]);
}

/**
 * A convolves with the kernel, stride and padding of the base, B mixes channels at each point (PEFT,
 * lora.Conv2d).
 */
function convolution(build: Emitter, { node, a, b }: Target, x: string): string {
  return build.emit("Conv", [build.emit("Conv", [x, a], windowOf(node)), b]);
}

/** Aᵀ[ids]·Bᵀ */
function lookup(build: Emitter, { a, b }: Target, ids: string): string {
  const rows = build.emit("Gather", [transposed(build, a), ids], { axis: 0 });
  return build.emit("MatMul", [rows, transposed(build, b)]);
}

function transposed(build: Emitter, name: string): string {
  return build.emit("Transpose", [name], { perm: [1, 0] });
}

const WINDOW = ["strides", "pads", "dilations", "auto_pad", "kernel_shape"] as const;

function windowOf(node: Node): Readonly<Record<string, AttributeInit>> {
  const given = WINDOW.flatMap((name): [string, AttributeInit][] => {
    const found = node.attributes.get(name);
    return found?.kind === "ints" || found?.kind === "string" ? [[name, found.value]] : [];
  });
  return Object.fromEntries(given);
}

function intOf(node: Node, name: string): number {
  const found = node.attributes.get(name);
  return found?.kind === "int" ? found.value : 0;
}

/** Whether A reads the node's ids rather than floats. */
export function readsIds(node: Node): boolean {
  return opOf(node) === "Gather";
}
