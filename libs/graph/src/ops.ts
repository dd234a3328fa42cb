import type { AttributeInit, Builder } from "./builder.ts";
import { type DType, sizeOf, type Tensor } from "./ir.ts";
import { dtypeCode } from "./onnx/dtype.ts";

type Attributes = Readonly<Record<string, AttributeInit>>;

/**
 * ONNX operators as the rules write them: names in, name out, and nothing emitted that changes nothing.
 * Every function here keeps to operators that onnxruntime and the tfjs engine both have.
 */
export type Ops = {
  readonly build: Builder;
  /** Any standard operator with one output. */
  op(name: string, inputs: readonly string[], attributes?: Attributes): string;
  shape(x: string): readonly number[];
  /** A scalar constant in x's own float type. */
  number(value: number, x: string): string;
  zeros(shape: readonly number[], like: string): string;
  add(a: string, b: string): string;
  sub(a: string, b: string): string;
  mul(a: string, b: string): string;
  div(a: string, b: string): string;
  /** x times a plain number. */
  scale(x: string, factor: number): string;
  /** x in another element type; x itself where it has that already. */
  cast(x: string, dtype: DType): string;
  where(condition: string, yes: string, no: string): string;
  /** `x` where the condition holds, else 0: unlike a product with 0, it also hides inf and NaN. */
  gate(condition: string, x: string): string;
  /** Both of rank 2 or more. */
  matmul(a: string, b: string): string;
  sum(x: string, axes: readonly number[], keep?: boolean): string;
  mean(x: string, axes: readonly number[], keep?: boolean): string;
  /** Sums x over the axes along which `shape` was broadcast to x's shape. */
  unbroadcast(x: string, shape: readonly number[]): string;
  reshape(x: string, shape: readonly number[]): string;
  expand(x: string, shape: readonly number[]): string;
  /** Of a constant it is one too, here or (a weight) when an engine loads: none multiplies transposed. */
  transpose(x: string, order: readonly number[]): string;
  /** The last two axes swapped. */
  swap(x: string): string;
  slice(x: string, range: SliceRange): string;
  /** Zeros (or `value`) before and after along each axis. */
  pad(x: string, edges: Edges): string;
};

export type SliceRange = {
  readonly axes: readonly number[];
  readonly starts: readonly number[];
  readonly ends: readonly number[];
  readonly steps?: readonly number[];
};

export type Edges = {
  readonly before: readonly number[];
  readonly after: readonly number[];
  readonly value?: number;
};

export function opsOn(build: Builder): Ops {
  const op: Ops["op"] = (name, inputs, attributes) => build.emit(name, inputs, attributes);
  const shape = (x: string) => build.shape(x);
  const number = (value: number, x: string) => build.constant(filled([], value, build.static(x).dtype));
  const where: Ops["where"] = (condition, yes, no) => op("Where", [condition, yes, no]);
  const mul: Ops["mul"] = (a, b) => op("Mul", [a, b]);
  const transpose: Ops["transpose"] = (x, order) =>
    order.every((axis, at) => axis === at) ? x : op("Transpose", [x], { perm: order });
  const expand: Ops["expand"] = (x, dims) =>
    sameShape(shape(x), dims) ? x : op("Expand", [x, build.ints(dims)]);
  return {
    build,
    op,
    shape,
    number,
    zeros: (dims, like) => expand(number(0, like), dims),
    expand,
    add: (a, b) => op("Add", [a, b]),
    sub: (a, b) => op("Sub", [a, b]),
    mul,
    div: (a, b) => op("Div", [a, b]),
    cast: (x, dtype) => (build.static(x).dtype === dtype ? x : op("Cast", [x], { to: dtypeCode(dtype) })),
    scale: (x, factor) => (factor === 1 ? x : mul(x, number(factor, x))),
    where,
    gate: (condition, x) => where(condition, x, number(0, x)),
    transpose,
    swap: (x) => transpose(x, swapped(shape(x).length)),
    ...products(build),
    ...reductions(build),
    ...reshapes(build),
  };
}

/**
 * A product with a vector is written elementwise. It is as cheap, and in a gradient a vector is often met as
 * [1, n] and as [n, 1] (reshapes of one memory), which tfjs's wasm engine would have to copy and pack twice
 * (docs/decisions/0010).
 */
function products(build: Builder): Pick<Ops, "matmul"> {
  const matmul = (a: string, b: string) => {
    const shape = build.shape(b);
    const [inner, columns] = shape.slice(-2) as [number, number];
    if (inner === 1) return build.emit("Mul", [a, b]);
    if (columns !== 1) return build.emit("MatMul", [a, b]);
    const row = reshaped(build, b, [...shape.slice(0, -2), 1, inner]);
    const terms = build.emit("Mul", [a, row]);
    return build.emit("ReduceSum", [terms], { axes: [build.shape(terms).length - 1], keepdims: 1 });
  };
  return { matmul };
}

function reductions(build: Builder): Pick<Ops, "sum" | "mean" | "unbroadcast"> {
  const reduce =
    (name: string) =>
    (x: string, axes: readonly number[], keep = false) =>
      axes.length === 0 ? x : build.emit(name, [x], { axes, keepdims: keep ? 1 : 0 });
  const sum = reduce("ReduceSum");
  const unbroadcast: Ops["unbroadcast"] = (x, shape) => {
    const from = build.shape(x);
    const lead = from.length - shape.length;
    const axes = from.flatMap((size, axis) => (axis < lead || size !== shape[axis - lead] ? [axis] : []));
    return reshaped(build, sum(x, axes), shape);
  };
  return { sum, mean: reduce("ReduceMean"), unbroadcast };
}

function reshapes(build: Builder): Pick<Ops, "reshape" | "slice" | "pad"> {
  return {
    reshape: (x, shape) => reshaped(build, x, shape),
    slice: (x, { axes, starts, ends, steps }) => {
      const bounds = [starts, ends, axes, ...(steps === undefined ? [] : [steps])];
      return build.emit("Slice", [x, ...bounds.map((values) => build.ints(values))]);
    },
    pad: (x, { before, after, value = 0 }) => {
      if ([...before, ...after].every((size) => size === 0)) return x;
      const fill = build.constant(filled([], value, build.static(x).dtype));
      return build.emit("Pad", [x, build.ints([...before, ...after]), fill]);
    },
  };
}

function reshaped(build: Builder, x: string, shape: readonly number[]): string {
  if (sameShape(build.shape(x), shape)) return x;
  // A 0 would else keep the size that stands in its place (Reshape, since version 14).
  const attributes = shape.includes(0) && build.opset >= 14 ? { allowzero: 1 } : {};
  return build.emit("Reshape", [x, build.ints(shape)], attributes);
}

/** [0, 1, …, rank − 1] with the last two axes swapped. */
export function swapped(rank: number): readonly number[] {
  return Array.from({ length: rank }, (_, at) =>
    at < rank - 2 ? at : at === rank - 2 ? rank - 1 : rank - 2,
  );
}

export function sameShape(a: readonly number[], b: readonly number[]): boolean {
  return a.length === b.length && a.every((size, axis) => size === b[axis]);
}

/** An axis as given in a file (negative counts from the end) as 0…rank − 1. */
export function axisOf(axis: number, rank: number): number {
  return axis < 0 ? axis + rank : axis;
}

/** 0, 1, …, length − 1. */
export function range(length: number): readonly number[] {
  return Array.from({ length }, (_, at) => at);
}

/**
 * A float tensor of one value; float64 stays float64, so a rule adds no float32 rounding to a double graph.
 */
export function filled(shape: readonly number[], value: number, dtype: string): Tensor {
  const size = sizeOf(shape);
  return dtype === "float64"
    ? { dtype, shape, data: new Float64Array(size).fill(value) }
    : { dtype: "float32", shape, data: new Float32Array(size).fill(value) };
}
