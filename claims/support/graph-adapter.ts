import "@tensorflow/tfjs-backend-wasm";
import * as tf from "@tensorflow/tfjs-core";
import { inject } from "@tutti/adapter/inject";
import type { ResolvedAdapter } from "@tutti/adapter/spec";
import { seededRandom } from "@tutti/foundation/random";
import { differentiate } from "@tutti/graph/differentiate";
import { tfjsEngine } from "@tutti/graph/engines/tfjs/engine";
import {
  type Engine,
  float32,
  type Graph,
  sizeOf,
  type Tensor,
  type Tensors,
  type TracedGraph,
} from "@tutti/graph/ir";
import { withLoss } from "@tutti/graph/loss";
import { tensorOf } from "@tutti/graph/tensor";
import { trace } from "@tutti/graph/trace";
import { widened } from "@tutti/graph/widen";
import { engine as onnxruntime } from "../../libs/adapter/test/golden.ts";

/** Both engines, as a claim about training has to hold on each. */
export async function bothEngines(): Promise<readonly Engine[]> {
  await tf.ready();
  return [onnxruntime, tfjsEngine(tf, "wasm")];
}

/** Token ids below this are in the vocabulary of every model of the conformance data. */
const VOCABULARY = 50;

/**
 * A batch for a model: normal values for floats; ids for the first input of integers, ones (a mask that hides
 * nothing) for any other. Named dimensions are `batch`.
 */
export function batchFor({ inputs }: Pick<Graph, "inputs">, batch: number): Tensors {
  const dice = seededRandom("claims/graph: inputs");
  let ids = true;
  return new Map(
    inputs.map(({ name, dtype, shape }): [string, Tensor] => {
      const sizes = (shape ?? []).map((size) => (typeof size === "number" ? size : batch));
      const draw =
        dtype === "float32" ? dice.normal : () => (ids ? Math.floor(dice.uniform() * VOCABULARY) : 1);
      const values = Array.from({ length: sizeOf(sizes) }, draw);
      if (dtype !== "float32") ids = false;
      return [name, tensorOf(dtype, sizes, values)];
    }),
  );
}

/** Normal values for every tensor of an adapter. */
export function drawn({ tensors }: ResolvedAdapter, size: number): Map<string, Float32Array> {
  const dice = seededRandom("claims/graph: factors");
  return new Map(
    tensors.map(({ name, shape }) => [
      name,
      Float32Array.from({ length: sizeOf(shape) }, () => dice.normal() * size),
    ]),
  );
}

export function asFeeds(
  { tensors }: ResolvedAdapter,
  values: ReadonlyMap<string, Float32Array>,
): readonly (readonly [string, Tensor])[] {
  return tensors.map(({ name, shape }) => [name, float32(shape, values.get(name)!)] as const);
}

/** An injected graph (halves widened) and its training step: each row is to have one of the classes. */
export type Lesson = {
  readonly injected: TracedGraph;
  readonly step: TracedGraph;
  /** The batch with labels and row weights. */
  readonly feeds: Tensors;
};

export function lessonOf(graph: Graph, adapter: ResolvedAdapter, batch: Tensors): Lesson {
  const shapes = Object.fromEntries([...batch].map(([name, { shape }]) => [name, shape]));
  const injected = inject(trace(widened(graph), { shapes }), adapter);
  const wrt = adapter.tensors.map(({ name }) => name);
  const { shape } = injected.statics.get(injected.outputs[0]!.name)!;
  const step = differentiate(withLoss(injected, { kind: "softmax-cross-entropy" }), { loss: "loss", wrt });
  const classes = shape.at(-1)!;
  const rows = shape.slice(0, -1);
  const labels = Array.from({ length: sizeOf(rows) }, (_, row) => row % classes);
  const feeds = new Map([
    ...batch,
    ["label", tensorOf("int64", rows, labels)] as const,
    ["row_weight", float32([rows[0]!], new Float32Array(rows[0]!).fill(1))] as const,
  ]);
  return { injected, step, feeds };
}

/** Plain gradient steps; the losses met on the way and the first step's gradients. */
export type Taught = {
  readonly losses: readonly number[];
  readonly gradients: ReadonlyMap<string, Float32Array>;
  readonly tensors: ReadonlyMap<string, Float32Array>;
};

export async function teach(
  engine: Engine,
  { step, feeds }: Lesson,
  {
    adapter,
    start,
    steps,
    rate,
  }: {
    adapter: ResolvedAdapter;
    start: ReadonlyMap<string, Float32Array>;
    steps: number;
    rate: number;
  },
): Promise<Taught> {
  const program = await engine.load(step);
  const losses: number[] = [];
  let tensors = new Map(start);
  let first: Map<string, Float32Array> | undefined;
  for (let n = 0; n < steps; n++) {
    const results = await program.step(new Map([...feeds, ...asFeeds(adapter, tensors)]));
    losses.push((results.get("loss")!.data as Float32Array)[0]!);
    const gradients = new Map(
      adapter.tensors.map(({ name }) => [name, results.get(`grad.${name}`)!.data as Float32Array]),
    );
    first ??= gradients;
    const moved = (name: string) =>
      tensors.get(name)!.map((value, at) => value - rate * gradients.get(name)![at]!);
    tensors = new Map(adapter.tensors.map(({ name }) => [name, moved(name)]));
  }
  await program.dispose();
  return { losses, gradients: first!, tensors };
}
