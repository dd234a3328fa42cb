import { assert, unreachable } from "@tutti/foundation/check";
import type { AttributeInit, Builder } from "@tutti/graph/builder";
import type { DType, Node } from "@tutti/graph/ir";
import type { AdaptedModule } from "./spec.ts";

/** One use of a target: its node, which input holds the weight, and the factors' names. */
export type Target = {
  readonly node: Node;
  readonly input: number;
  readonly module: AdaptedModule;
  readonly a: string;
  readonly b: string;
};

/**
 * Emits `scale·B·A` of what the node reads, of the shape and type of the node's output, and returns its
 * name. Never the product B·A itself: two thin products cost (in + out)·rank per row rather than in·out.
 * The scale goes to B, the smaller operand. Transposes stand alone, since engines are slow at products that
 * transpose (docs/onnx.md, Operators).
 */
export function sidePath(build: Builder, target: Target): string {
  const output = build.static(target.node.outputs[0]!);
  const delta = asType(build, pathOf(build, target), output.dtype);
  const shape = build.shape(delta);
  assert(`${shape}` === `${output.shape}`, `side path of ${target.module.module} fits: [${shape}]`);
  return delta;
}

function pathOf(build: Builder, target: Target): string {
  const { kind } = target.module;
  switch (kind) {
    case "linear":
      return target.node.op === "MatMul" && target.input === 0
        ? fromLeft(build, target)
        : linear(build, target);
    case "conv":
      return convolution(build, target);
    case "embedding":
      return lookup(build, target);
    default:
      return unreachable(kind);
  }
}

/** (x·Aᵀ)·(s·B)ᵀ for MatMul and both kinds of Gemm. */
function linear(build: Builder, { node, module, a, b }: Target): string {
  const transA = node.op === "Gemm" && intOf(node, "transA") === 1;
  const x = asType(build, node.inputs[0]!, "float32");
  const rows = transA ? transposed(build, x) : x;
  const narrow = build.emit("MatMul", [rows, transposed(build, a)]);
  return build.emit("MatMul", [narrow, transposed(build, scaled(build, b, module.scale))]);
}

/** s·B·(A·x) where the weight is the left operand: y = W·x. */
function fromLeft(build: Builder, { node, module, a, b }: Target): string {
  const narrow = build.emit("MatMul", [a, asType(build, node.inputs[1]!, "float32")]);
  return build.emit("MatMul", [scaled(build, b, module.scale), narrow]);
}

/**
 * A convolves with the kernel, stride and padding of the base, B mixes channels at each point (PEFT,
 * lora.Conv2d).
 */
function convolution(build: Builder, { node, module, a, b }: Target): string {
  const x = asType(build, node.inputs[0]!, "float32");
  const narrow = build.emit("Conv", [x, a], windowOf(node));
  return build.emit("Conv", [narrow, scaled(build, b, module.scale)]);
}

/** Aᵀ[ids]·(s·B)ᵀ */
function lookup(build: Builder, { node, module, a, b }: Target): string {
  const rows = build.emit("Gather", [transposed(build, a), node.inputs[1]!], { axis: 0 });
  return build.emit("MatMul", [rows, transposed(build, scaled(build, b, module.scale))]);
}

function transposed(build: Builder, name: string): string {
  return build.emit("Transpose", [name], { perm: [1, 0] });
}

function scaled(build: Builder, name: string, scale: number): string {
  return scale === 1 ? name : build.emit("Mul", [name, build.scalar(scale)]);
}

/** TensorProto.DataType of the types a base computes in. */
const CODES: Partial<Record<DType, number>> = { float32: 1, float16: 10, float64: 11 };

/** Factors are float32 whatever the base computes in. */
function asType(build: Builder, name: string, dtype: DType): string {
  if (build.static(name).dtype === dtype) return name;
  const code = CODES[dtype];
  assert(code !== undefined, `a weight's node computes floats, not ${dtype}`);
  return build.emit("Cast", [name], { to: code });
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
