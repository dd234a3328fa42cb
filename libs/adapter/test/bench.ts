import { differentiate } from "../../graph/src/differentiate.ts";
import { type Engine, float32, sizeOf, type Tensors, type TracedGraph } from "../../graph/src/ir.ts";
import { withLoss } from "../../graph/src/loss.ts";
import { trace } from "../../graph/src/trace.ts";
import { fromPeft, type Loaded } from "../src/formats/peft.ts";
import { inject } from "../src/inject.ts";
import { factorOf } from "../src/spec.ts";
import { apart, type Golden } from "./golden.ts";

/** A PEFT case on the bench: its adapter loaded and injected, everything to feed, and what torch expects. */
export type Bench = {
  readonly bytes: Uint8Array;
  readonly inputs: Tensors;
  readonly loaded: Loaded;
  readonly injected: TracedGraph;
  /** Inputs and adapter tensors. */
  readonly feeds: Tensors;
  expected(name: string): Float32Array;
  /**
   * The largest difference of any gradient from torch's, relative to the largest element of that gradient.
   */
  gradientError(engine: Engine): Promise<number>;
};

export function benchOf(golden: Golden, exporter: "dynamo" | "legacy"): Bench {
  const { bytes, model } = golden.base(exporter);
  const { inputs } = golden;
  const loaded = fromPeft(golden.config, golden.weights, model, { outputScale: batchNormScales(golden) });
  const shapes = Object.fromEntries([...inputs].map(([name, { shape }]) => [name, shape]));
  const injected = inject(trace(model.graph, { shapes }), loaded.adapter);
  const parameters = loaded.adapter.tensors.map(({ name, shape }) => {
    return [name, float32(shape, loaded.tensors.get(name)!)] as const;
  });
  const feeds: Tensors = new Map([...inputs, ...parameters]);
  const expected = (name: string) => golden.golden.get(name)!.data as Float32Array;
  return {
    bytes,
    inputs,
    loaded,
    injected,
    feeds,
    expected,
    async gradientError(engine) {
      const { graph, targets } = squared(injected, loaded);
      const results = await stepOnce(engine, graph, new Map([...feeds, ...targets]));
      const errors = loaded.adapter.tensors.map(({ name }) => {
        const wanted = expected(`grad.${peftName(name)}`);
        const largest = Math.max(...Array.from(wanted, Math.abs));
        return apart(atTorch(golden, name, results.get(`grad.${name}`)!), wanted) / largest;
      });
      return Math.max(...errors);
    },
  };
}

/** One run of a graph, everything freed. */
export async function stepOnce(
  engine: Engine,
  graph: TracedGraph,
  feeds: Tensors,
): Promise<Map<string, Float32Array>> {
  const program = await engine.load(graph);
  const results = await program.step(feeds);
  await program.dispose();
  return new Map([...results].map(([name, { data }]) => [name, data as Float32Array]));
}

/** γ/σ of the batch norms that the exporter folded: `bn_scale.<module>`. */
function batchNormScales({ golden }: Golden): Record<string, Float32Array> {
  const scales = [...golden].filter(([name]) => name.startsWith("bn_scale."));
  return Object.fromEntries(scales.map(([name, { data }]) => [name.slice(9), data as Float32Array]));
}

/** mean(output²) is the squared error against zeros, all rows weighing the same. */
function squared(injected: TracedGraph, { adapter }: Loaded): { graph: TracedGraph; targets: Tensors } {
  const { shape } = injected.statics.get("output")!;
  const graph = differentiate(withLoss(injected, { kind: "mean-squared-error", output: "output" }), {
    loss: "loss",
    wrt: adapter.tensors.map(({ name }) => name),
  });
  const targets = new Map([
    ["label", float32(shape, new Float32Array(sizeOf(shape)))],
    ["row_weight", float32([shape[0]!], new Float32Array(shape[0]!).fill(1))],
  ]);
  return { graph, targets };
}

/** The exports wrap the model in `m.`; gradients of whole tensors are named by PEFT's own wrapper. */
function peftName(tensor: string): string {
  const inner = tensor.replace(/^m\./, "base_model.model.");
  return factorOf(tensor) === "whole" ? inner.replace(/\.(weight|bias)$/, ".modules_to_save.$1") : inner;
}

/** The gradient at torch's B from that at B times γ/σ: by the chain rule the same factor once more. */
function atTorch(golden: Golden, tensor: string, gradient: Float32Array): Float32Array {
  const module = /^m\.(.+)\.lora_B\.weight$/.exec(tensor)?.[1];
  const scale = batchNormScales(golden)[module ?? ""];
  if (!scale) return gradient;
  const rank = gradient.length / scale.length;
  return gradient.map((value, at) => value * scale[Math.floor(at / rank)]!);
}
