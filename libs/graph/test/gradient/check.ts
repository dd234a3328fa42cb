import "@tensorflow/tfjs-backend-wasm";
import * as tf from "@tensorflow/tfjs-core";
import { seededRandom } from "@tutti/foundation/random";
import * as ort from "onnxruntime-node";
import { expect } from "vitest";
import { type AttributeInit, builderOn } from "../../src/builder.ts";
import { differentiate } from "../../src/differentiate.ts";
import { onnxruntimeEngine } from "../../src/engines/onnxruntime/engine.ts";
import { tfjsEngine } from "../../src/engines/tfjs/engine.ts";
import type { DType, Tensor, Tensors, TracedGraph } from "../../src/ir.ts";
import { tensorOf } from "../../src/tensor.ts";
import { run64 } from "./twin.ts";

/** A float input whose gradient is checked, or (`frozen`) a constant; integers and bools are given whole. */
export type Input =
  | { readonly shape: readonly number[]; readonly values?: readonly number[]; readonly frozen?: boolean }
  | { readonly tensor: Tensor; readonly fed?: boolean }
  | undefined;

export type Case = {
  readonly op: string;
  readonly inputs: readonly Input[];
  readonly attributes?: Readonly<Record<string, AttributeInit>>;
  readonly opset?: number;
  readonly outputs?: number;
  /** Where random values lie; [−2, 2] unless told. */
  readonly range?: readonly [number, number];
  readonly seed?: number;
  /** The tfjs engine knows the standard domain alone. */
  readonly onnxruntimeOnly?: boolean;
  /** Weigh every output 1 rather than at random. */
  readonly uniform?: boolean;
};

export const int64 = (shape: readonly number[], values: readonly number[]): Tensor =>
  tensorOf("int64", shape, values);
export const bool = (shape: readonly number[], values: readonly number[]): Tensor =>
  tensorOf("bool", shape, values);

type Built = { graph: TracedGraph; feeds: Map<string, Tensor>; wrt: string[] };

/**
 * op(inputs) → loss = Σ over outputs of a random weight times the value, so no gradient hides behind
 * symmetry.
 */
function build(test: Case, dtype: DType): Built {
  const random = seededRandom(test.seed ?? 1);
  const [low, high] = test.range ?? [-2, 2];
  const draw = (shape: readonly number[]) =>
    Array.from({ length: shape.reduce((a, b) => a * b, 1) }, () =>
      Math.fround(low + (high - low) * random.uniform()),
    );
  const b = builderOn(undefined, test.opset ?? 17);
  const feeds = new Map<string, Tensor>();
  const wrt: string[] = [];
  const names = test.inputs.map((input, at) => {
    if (input === undefined) return "";
    const given = "tensor" in input;
    const tensor = given ? input.tensor : tensorOf(dtype, input.shape, input.values ?? draw(input.shape));
    if (given ? !input.fed : input.frozen) return b.constant(tensor);
    const name = b.input({ name: `x${at}`, dtype: tensor.dtype, shape: tensor.shape });
    feeds.set(name, tensor);
    if (!given) wrt.push(name);
    return name;
  });
  const outputs = b.emitMany(test.op, names, {
    outputs: test.outputs ?? 1,
    attributes: test.attributes ?? {},
  });
  const parts = outputs.map((y) => {
    const weights = b.constant(
      tensorOf(
        dtype,
        b.shape(y),
        draw(b.shape(y)).map((w) => (test.uniform ? 1 : w)),
      ),
    );
    const axes = b.shape(y).map((_, axis) => axis);
    const product = b.emit("Mul", [y, weights]);
    return axes.length === 0 ? product : b.emit("ReduceSum", [product], { axes, keepdims: 0 });
  });
  b.output(
    parts.reduce((sum, part) => b.emit("Add", [sum, part])),
    "loss",
  );
  return { graph: b.finish(), feeds, wrt };
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

/** The rule against central differences in float64, then the same graph in float32 on both engines. */
export async function checkGradient(test: Case): Promise<void> {
  const { graph, feeds, wrt } = build(test, "float64");
  const what = told(test);
  const derived = run64(differentiate(graph, { loss: "loss", wrt }), feeds);
  const exact = new Map(wrt.map((name) => [name, numericGradient(graph, feeds, name)]));
  for (const name of wrt) {
    const got = derived.get(`grad.${name}`)!;
    expect(got.shape, what).toEqual(feeds.get(name)!.shape);
    close(got, exact.get(name)!, { tolerance: 1e-6, what: `${what} ${name} in float64` });
  }
  await checkOnEngines(test, exact);
}

function told(test: Case): string {
  return JSON.stringify(test, (_, value) => (typeof value === "bigint" ? Number(value) : value));
}

/**
 * The derived gradient of Σ op(x) itself at the first input, for values that central differences cannot see.
 */
export function gradientOf(test: Case): number[] {
  const { graph, feeds, wrt } = build({ ...test, uniform: true }, "float64");
  const results = run64(differentiate(graph, { loss: "loss", wrt }), feeds);
  return Array.from(results.get(`grad.${wrt[0]}`)!.data as Float64Array);
}

async function checkOnEngines(test: Case, exact: ReadonlyMap<string, readonly number[]>): Promise<void> {
  const { graph, feeds, wrt } = build(test, "float32");
  const derived = differentiate(graph, { loss: "loss", wrt });
  await tf.setBackend("wasm");
  const engines = [onnxruntimeEngine(ort), ...(test.onnxruntimeOnly ? [] : [tfjsEngine(tf, "wasm")])];
  for (const engine of engines) {
    const program = await engine.load(derived);
    const results = await program.step(feeds);
    await program.dispose();
    for (const name of wrt) {
      const what = `${told(test)} ${name} on ${engine.name}`;
      close(results.get(`grad.${name}`)!, exact.get(name)!, { tolerance: 1e-4, what });
    }
  }
}

export type Closeness = { readonly tolerance: number; readonly what: string };

/** |got − wanted| ≤ tolerance · max(1, |wanted|), everywhere; NaN is close to nothing. */
export function close(got: Tensor, wanted: readonly number[], { tolerance, what }: Closeness): void {
  expect(got.data.length, what).toBe(wanted.length);
  for (const [at, value] of wanted.entries()) {
    const off = Math.abs(Number(got.data[at]) - value);
    if (!(off <= tolerance * Math.max(1, Math.abs(value)))) {
      expect.fail(`${what}[${at}]: got ${got.data[at]}, wanted ${value}`);
    }
  }
}
