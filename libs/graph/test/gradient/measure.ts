import "@tensorflow/tfjs-backend-wasm";
import * as tf from "@tensorflow/tfjs-core";
import { seededRandom } from "@tutti/foundation/random";
import * as ort from "onnxruntime-node";
import { type AttributeInit, builderOn } from "../../src/builder.ts";
import { differentiate } from "../../src/differentiate.ts";
import { onnxruntimeEngine } from "../../src/engines/onnxruntime/engine.ts";
import { tfjsEngine } from "../../src/engines/tfjs/engine.ts";
import {
  type DType,
  type Engine,
  sizeOf,
  type Tensor,
  type Tensors,
  type TracedGraph,
} from "../../src/ir.ts";
import { numbers, tensorOf } from "../../src/tensor.ts";
import { run64 } from "./twin.ts";

/** A float input whose gradient is checked, or (`frozen`) a constant; integers and bools are given whole. */
export type Input =
  | {
      readonly shape: readonly number[];
      readonly values?: readonly number[];
      readonly range?: readonly [number, number];
      readonly frozen?: boolean;
    }
  | { readonly tensor: Tensor; readonly fed?: boolean }
  | undefined;

type Attributes = Readonly<Record<string, AttributeInit>>;

export type Case = {
  /** `com.microsoft::Op` for another domain. */
  readonly op: string;
  readonly inputs: readonly Input[];
  /** A function where an attribute names the element type. */
  readonly attributes?: Attributes | ((dtype: DType) => Attributes);
  readonly opset?: number;
  readonly outputs?: number;
  /** Where random values lie; [−2, 2] unless told. */
  readonly range?: readonly [number, number];
  readonly seed?: number;
  /** Weigh every output 1 rather than at random. */
  readonly uniform?: boolean;
  /** The terms of the loss are summed without their signs. */
  readonly unsigned?: boolean;
};

export type Built = { graph: TracedGraph; feeds: Map<string, Tensor>; wrt: string[] };

/**
 * op(inputs) → loss = Σ over float outputs of a random weight times the value, so no gradient hides behind
 * symmetry.
 */
export function build(test: Case, dtype: DType): Built {
  const draw = drawing(test);
  const b = builderOn(undefined, test.opset ?? 17);
  const feeds = new Map<string, Tensor>();
  const wrt: string[] = [];
  const names = test.inputs.map((input, at) => {
    if (input === undefined) return "";
    const given = "tensor" in input;
    const tensor = given
      ? input.tensor
      : tensorOf(dtype, input.shape, input.values ?? draw(input.shape, input.range));
    if (given ? !input.fed : input.frozen) return b.constant(tensor);
    const name = b.input({ name: `x${at}`, dtype: tensor.dtype, shape: tensor.shape });
    feeds.set(name, tensor);
    if (!given) wrt.push(name);
    return name;
  });
  const attributes = typeof test.attributes === "function" ? test.attributes(dtype) : test.attributes;
  const outputs = b.emitMany(test.op, names, { outputs: test.outputs ?? 1, attributes: attributes ?? {} });
  const parts = outputs
    .filter((y) => b.static(y).dtype === dtype)
    .map((y) => {
      const shape = b.shape(y);
      const weights = tensorOf(dtype, shape, test.uniform ? draw(shape).fill(1) : draw(shape));
      const signed = b.emit("Mul", [y, b.constant(weights)]);
      const product = test.unsigned ? b.emit("Abs", [signed]) : signed;
      const axes = shape.map((_, axis) => axis);
      return shape.length === 0 ? product : b.emit("ReduceSum", [product], { axes, keepdims: 0 });
    });
  b.output(
    parts.reduce((sum, part) => b.emit("Add", [sum, part])),
    "loss",
  );
  return { graph: b.finish(), feeds, wrt };
}

/**
 * Central differences cannot look across a kink, and operators have theirs at round numbers and where two
 * values are equal: no value comes within 1/2000 of a quarter or of another value.
 */
const APART = 5e-4;

function drawing(test: Case): (shape: readonly number[], range?: readonly [number, number]) => number[] {
  const random = seededRandom(test.seed ?? 1);
  const taken = new Set<number>();
  const cell = (value: number) => Math.round(value / APART);
  return (shape, [low, high] = test.range ?? [-2, 2]) =>
    Array.from({ length: sizeOf(shape) }, () => {
      for (;;) {
        const value = Math.fround(low + (high - low) * random.uniform());
        const [at, quarter] = [cell(value), Math.abs(4 * value - Math.round(4 * value)) / 4];
        if (quarter < APART || taken.has(at)) continue;
        for (const near of [at - 1, at, at + 1]) taken.add(near);
        return value;
      }
    });
}

/** d loss / d x by central differences in float64: error about h² and 1e-16/h, so near 1e-10. */
export function numericGradient(graph: TracedGraph, feeds: Tensors, name: string): number[] {
  const tensor = feeds.get(name)!;
  const h = 1e-5;
  const lossAt = (at: number, by: number) => {
    const data = (tensor.data as Float64Array).slice();
    data[at]! += by;
    return Number(run64(graph, new Map([...feeds, [name, { ...tensor, data }]])).get("loss")!.data[0]);
  };
  return Array.from({ length: tensor.data.length }, (_, at) => (lossAt(at, h) - lossAt(at, -h)) / (2 * h));
}

/** The largest differences met; each relative to the wanted value, or absolute where that is below 1. */
export type Errors = {
  /** Derived gradient in float64 against central differences. */
  readonly rule: number;
  /** Gradients in float32 on either engine against central differences in float64. */
  readonly gradient: number;
  /** Loss and gradients of one engine against the other's; the loss relative to its terms' absolute sum. */
  readonly engines: number;
};

/** The claim's limits (claims/graph/gradients.ts); the rule itself, in float64, is held to far less. */
export const LIMIT: Errors = { rule: 1e-6, gradient: 1e-3, engines: 1e-4 };

/** The rule against central differences in float64, then the same graph in float32 on both engines. */
export async function measure(test: Case): Promise<Errors> {
  const { graph, feeds, wrt } = build(test, "float64");
  const exact = wrt.map((name) => numericGradient(graph, feeds, name));
  const derived = run64(differentiate(graph, { loss: "loss", wrt }), feeds);
  const rule = Math.max(0, ...wrt.map((name, at) => apart(derived.get(`grad.${name}`)!, exact[at]!)));
  const [a, b] = await onEngines(test);
  const against = (results: Tensors) =>
    wrt.map((name, at) => apart(results.get(`grad.${name}`)!, exact[at]!));
  const between = wrt.map((name) => apart(a.get(`grad.${name}`)!, numbers(b.get(`grad.${name}`)!)));
  return {
    rule,
    gradient: Math.max(0, ...against(a), ...against(b)),
    engines: Math.max(lossesApart(test, [a, b]), ...between),
  };
}

/**
 * Terms of either sign may cancel to a loss near zero, whose own size says nothing of what rounding leaves;
 * float32 keeps digits of the terms, so their absolute sum is the measure.
 */
function lossesApart(test: Case, results: readonly [Tensors, Tensors]): number {
  const { graph, feeds } = build({ ...test, unsigned: true }, "float64");
  const size = Math.max(SMALL, Number(run64(graph, feeds).get("loss")!.data[0]));
  const [a, b] = results.map((one) => Number(one.get("loss")!.data[0])) as [number, number];
  const off = Math.abs(a - b) / size;
  return Number.isNaN(off) ? Number.POSITIVE_INFINITY : off;
}

async function onEngines(test: Case): Promise<readonly [Tensors, Tensors]> {
  const { graph, feeds, wrt } = build(test, "float32");
  const derived = differentiate(graph, { loss: "loss", wrt });
  await tf.setBackend("wasm");
  const run = async (engine: Engine) => {
    const program = await engine.load(derived);
    const results = await program.step(feeds);
    await program.dispose();
    return results;
  };
  return [await run(onnxruntimeEngine(ort)), await run(tfjsEngine(tf, "wasm"))];
}

/** Below this a tensor's largest element is as good as zero beside the ones that are drawn. */
const SMALL = 1e-2;

/**
 * Largest |got − wanted| over the largest |wanted| of the tensor, so that a small gradient has to be right
 * too; infinite where a number is missing or is none.
 */
export function apart(got: Tensor, wanted: readonly number[]): number {
  if (got.data.length !== wanted.length) return Number.POSITIVE_INFINITY;
  const size = wanted.reduce((most, value) => Math.max(most, Math.abs(value)), SMALL);
  const off = wanted.map((value, at) => {
    const error = Math.abs(Number(got.data[at]) - value) / size;
    return Number.isNaN(error) ? Number.POSITIVE_INFINITY : error;
  });
  return Math.max(0, ...off);
}
