import { evaluateNode, evaluates } from "../../src/evaluate/evaluate.ts";
import { expanded } from "../../src/expand/expand.ts";
import type { Node, Tensor, Tensors, TracedGraph } from "../../src/ir.ts";

/**
 * A slow float64 interpreter: what a graph means. Operators that libs/graph/src/evaluate has (checked against
 * onnxruntime in its own tests) come from there; windows are written out here, one loop per index;
 * what neither has runs as its expansion (checked against onnxruntime in test/expand).
 */
export function run64(traced: TracedGraph, feeds: Tensors): Tensors {
  const graph = expanded(traced, { wanted: (node) => !WINDOWS[node.op] && !evaluates(node) });
  const values = new Map<string, Tensor>([...graph.initializers, ...feeds]);
  const constant = (name: string) => values.get(name);
  for (const node of graph.nodes) {
    const window = WINDOWS[node.op];
    const inputs = node.inputs.map((name) => values.get(name)!);
    const results = window
      ? [window(node, inputs, graph.statics.get(node.outputs[0]!)!.shape)]
      : evaluates(node)
        ? evaluateNode(node, { opset: graph.opset, constant })
        : missing(node);
    for (const [i, name] of node.outputs.entries()) values.set(name, results[i]!);
  }
  return new Map(graph.outputs.map(({ name }) => [name, values.get(name)!]));
}

function missing(node: Node): never {
  throw new Error(`the twin has no ${node.op}`);
}

type Kernel = (node: Node, inputs: readonly Tensor[], shape: readonly number[]) => Tensor;
const WINDOWS: Record<string, Kernel> = {
  Conv: conv,
  MaxPool: (node, [x], shape) => pool(node, x!, { shape, over: (seen) => Math.max(...seen.map(([v]) => v)) }),
  AveragePool: (node, [x], shape) => {
    const padded = ints(node, "count_include_pad", [0])[0] === 1;
    const over = (seen: readonly Seen[]) => {
      const counted = seen.filter(([, place]) => padded || place === "input");
      return counted.reduce((sum, [v, place]) => sum + (place === "input" ? v : 0), 0) / counted.length;
    };
    return pool(node, x!, { shape, over, padded: true });
  },
  GlobalAveragePool: (_, [x], shape) => overSpace(x!, shape, (v) => v.reduce((a, b) => a + b, 0) / v.length),
  GlobalMaxPool: (_, [x], shape) => overSpace(x!, shape, (v) => Math.max(...v)),
  InstanceNormalization: instanceNormalization,
};

function ints(node: Node, name: string, fallback: readonly number[]): readonly number[] {
  const value = node.attributes.get(name)?.value as number | readonly number[] | undefined;
  return value === undefined ? fallback : typeof value === "number" ? [value] : value;
}

/** Every index of a shape, row-major. */
export function* indices(shape: readonly number[]): Generator<number[]> {
  const size = shape.reduce((a, b) => a * b, 1);
  for (let flat = 0; flat < size; flat++) {
    let rest = flat;
    const index = shape.map(() => 0);
    for (let axis = shape.length - 1; axis >= 0; axis--) {
      index[axis] = rest % shape[axis]!;
      rest = Math.floor(rest / shape[axis]!);
    }
    yield index;
  }
}

const at = (x: Tensor, index: readonly number[]) =>
  Number(x.data[index.reduce((flat, i, axis) => flat * x.shape[axis]! + i, 0)]);
const inside = (index: readonly number[], shape: readonly number[]) =>
  index.every((i, axis) => i >= 0 && i < shape[axis]!);

function make(shape: readonly number[], value: (index: readonly number[]) => number): Tensor {
  return { dtype: "float64", shape, data: Float64Array.from([...indices(shape)].map(value)) };
}

type Sizes = {
  readonly kernel: readonly number[];
  readonly input: readonly number[];
  readonly output: readonly number[];
};

function geometry(node: Node, { kernel, input, output }: Sizes) {
  const ones = kernel.map(() => 1);
  const strides = ints(node, "strides", ones);
  const dilations = ints(node, "dilations", ones);
  const auto = node.attributes.get("auto_pad")?.value ?? "NOTSET";
  const total = kernel.map((size, axis) =>
    Math.max((output[axis]! - 1) * strides[axis]! + (size - 1) * dilations[axis]! + 1 - input[axis]!, 0),
  );
  const before = total.map((size) => (auto === "SAME_UPPER" ? Math.floor(size / 2) : Math.ceil(size / 2)));
  const same = [...before, ...total.map((size, axis) => size - before[axis]!)];
  const pads = ints(
    node,
    "pads",
    kernel.flatMap(() => [0, 0]),
  );
  return { strides, dilations, pads: String(auto).startsWith("SAME") ? same : pads };
}

function conv(node: Node, [x, w, b]: readonly Tensor[], shape: readonly number[]): Tensor {
  const [, inPer, ...kernel] = w!.shape as [number, number, ...number[]];
  const { strides, dilations, pads } = geometry(node, {
    kernel,
    input: x!.shape.slice(2),
    output: shape.slice(2),
  });
  const group = ints(node, "group", [1])[0]!;
  return make(shape, ([n, o, ...out]) => {
    let sum = b ? at(b, [o!]) : 0;
    const first = Math.floor(o! / (w!.shape[0]! / group)) * inPer;
    for (const [i, ...place] of indices([inPer, ...kernel])) {
      const where = out.map((p, axis) => p * strides[axis]! + place[axis]! * dilations[axis]! - pads[axis]!);
      if (inside(where, x!.shape.slice(2)))
        sum += at(x!, [n!, first + i!, ...where]) * at(w!, [o!, i!, ...place]);
    }
    return sum;
  });
}

type Seen = readonly [number, "input" | "padding"];
type Pooling = { shape: readonly number[]; over: (seen: readonly Seen[]) => number; padded?: boolean };

function pool(node: Node, x: Tensor, { shape, over, padded = false }: Pooling): Tensor {
  const kernel = ints(node, "kernel_shape", []);
  const { strides, dilations, pads } = geometry(node, {
    kernel,
    input: x.shape.slice(2),
    output: shape.slice(2),
  });
  const space = x.shape.slice(2);
  const withPads = space.map((size, axis) => size + pads[axis]! + pads[axis + kernel.length]!);
  return make(shape, ([n, c, ...out]) => {
    const seen: Seen[] = [];
    for (const place of indices(kernel)) {
      const where = out.map((p, axis) => p * strides[axis]! + place[axis]! * dilations[axis]! - pads[axis]!);
      if (inside(where, space)) seen.push([at(x, [n!, c!, ...where]), "input"]);
      else if (
        padded &&
        inside(
          where.map((p, axis) => p + pads[axis]!),
          withPads,
        )
      )
        seen.push([0, "padding"]);
    }
    return over(seen);
  });
}

function overSpace(x: Tensor, shape: readonly number[], over: (values: readonly number[]) => number): Tensor {
  const space = [...indices(x.shape.slice(2))];
  return make(shape, ([n, c]) => over(space.map((where) => at(x, [n!, c!, ...where]))));
}

function instanceNormalization(node: Node, [x, scale, bias]: readonly Tensor[]): Tensor {
  const epsilon = (node.attributes.get("epsilon")?.value as number | undefined) ?? 1e-5;
  const space = [...indices(x!.shape.slice(2))];
  return make(x!.shape, ([n, c, ...where]) => {
    const all = space.map((p) => at(x!, [n!, c!, ...p]));
    const mean = all.reduce((a, b) => a + b, 0) / all.length;
    const variance = all.reduce((a, v) => a + (v - mean) ** 2, 0) / all.length;
    return (
      (at(scale!, [c!]) * (at(x!, [n!, c!, ...where]) - mean)) / Math.sqrt(variance + epsilon) +
      at(bias!, [c!])
    );
  });
}
