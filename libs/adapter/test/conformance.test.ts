import { describe, expect, test } from "vitest";
import { differentiate } from "../../graph/src/differentiate.ts";
import { float32, type Tensors, type TracedGraph } from "../../graph/src/ir.ts";
import { withLoss } from "../../graph/src/loss.ts";
import { trace } from "../../graph/src/trace.ts";
import { inject } from "../src/inject.ts";
import { merge } from "../src/merge.ts";
import { fromPeft, type Loaded } from "../src/peft.ts";
import { factorOf } from "../src/spec.ts";
import { apart, engine, type Golden, goldenOf, runFile } from "./golden.ts";

/**
 * conformance/peft: torch 2.13 and PEFT 0.21 made base, adapter, outputs and gradients; both of torch's exporters wrote
 * the base. Outputs within 1e-5, gradients within 1e-4 of the largest element.
 */
for (const name of ["mlp", "bert", "cnn"] as const) {
  const golden = goldenOf(name);
  describe.skipIf(!golden).each(["dynamo", "legacy"] as const)(`PEFT ${name}, %s exporter`, (exporter) => {
    const bench = () => benchOf(golden!, exporter);

    test("the base answers as torch's", async () => {
      const { bytes, inputs, expected } = bench();
      expect(apart((await runFile(bytes, inputs)).get("output")!, expected("output.base"))).toBeLessThan(
        1e-5,
      );
    });

    test("the injected graph answers as PEFT's", async () => {
      const { injected, feeds, expected } = bench();
      const results = await step(injected, feeds);
      expect(apart(results.get("output")!, expected("output.adapter"))).toBeLessThan(1e-5);
    });

    test("the merged file answers as PEFT's, and only weights changed", async () => {
      const { bytes, loaded, inputs, expected } = bench();
      const merged = merge(bytes, loaded.adapter, loaded.tensors);
      expect(merged.length).toBe(bytes.length);
      expect(apart((await runFile(merged, inputs)).get("output")!, expected("output.adapter"))).toBeLessThan(
        1e-5,
      );
    });

    test("gradients of mean(output²) are torch's", async () => {
      const { loaded, injected, feeds, expected } = bench();
      const { graph, targets } = squared(injected, loaded);
      const results = await step(graph, new Map([...feeds, ...targets]));
      for (const { name: tensor } of loaded.adapter.tensors) {
        const wanted = expected(`grad.${peftName(golden!, tensor)}`);
        const got = scaledBack(golden!, tensor, results.get(`grad.${tensor}`)!);
        const largest = Math.max(...Array.from(wanted, Math.abs));
        expect(largest, tensor).toBeGreaterThan(0);
        expect(apart(got, wanted) / largest, tensor).toBeLessThan(1e-4);
      }
    });
  });
}

function benchOf(golden: Golden, exporter: "dynamo" | "legacy") {
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
  return { bytes, model, inputs, loaded, injected, feeds, expected };
}

/** γ/σ of the batch norms that the exporter folded: `bn_scale.<module>`. */
function batchNormScales({ golden }: Golden): Record<string, Float32Array> {
  const scales = [...golden].filter(([name]) => name.startsWith("bn_scale."));
  return Object.fromEntries(scales.map(([name, { data }]) => [name.slice(9), data as Float32Array]));
}

/** mean(output²) is the squared error against zeros with all rows weighing the same. */
function squared(injected: TracedGraph, { adapter }: Loaded): { graph: TracedGraph; targets: Tensors } {
  const { shape } = injected.statics.get("output")!;
  const graph = differentiate(withLoss(injected, { kind: "mean-squared-error", output: "output" }), {
    loss: "loss",
    wrt: adapter.tensors.map(({ name }) => name),
  });
  const size = shape.reduce((product, dimension) => product * dimension, 1);
  const targets = new Map([
    ["label", float32(shape, new Float32Array(size))],
    ["row_weight", float32([shape[0]!], new Float32Array(shape[0]!).fill(1))],
  ]);
  return { graph, targets };
}

async function step(graph: TracedGraph, feeds: Tensors): Promise<Map<string, Float32Array>> {
  const program = await engine.load(graph);
  const results = await program.step(feeds);
  await program.dispose();
  return new Map([...results].map(([name, { data }]) => [name, data as Float32Array]));
}

/** Our names wrap the model in `m.`, as the exports do; gradients of whole tensors are named by PEFT's own wrapper. */
function peftName(_: Golden, tensor: string): string {
  const inner = tensor.replace(/^m\./, "base_model.model.");
  return factorOf(tensor) === "whole" ? inner.replace(/\.(weight|bias)$/, ".modules_to_save.$1") : inner;
}

/** The gradient at torch's B from that at B times γ/σ: the chain rule multiplies by the same factor. */
function scaledBack(golden: Golden, tensor: string, gradient: Float32Array): Float32Array {
  const module = /^m\.(.+)\.lora_B\.weight$/.exec(tensor)?.[1];
  const scale = batchNormScales(golden)[module ?? ""];
  if (!scale) return gradient;
  const rank = gradient.length / scale.length;
  return gradient.map((value, at) => value * scale[Math.floor(at / rank)]!);
}
