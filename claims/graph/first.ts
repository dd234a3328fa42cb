import "@tensorflow/tfjs-backend-wasm";
import * as tf from "@tensorflow/tfjs-core";
import { merge } from "@tutti/adapter/merge";
import { tfjsEngine } from "@tutti/graph/engines/tfjs/engine";
import type { Engine } from "@tutti/graph/ir";
import { type Bench, benchOf, stepOnce } from "../../libs/adapter/test/bench.ts";
import { apart, goldenOf, engine as onnxruntime, runFile } from "../../libs/adapter/test/golden.ts";
import type { Claim } from "../claim.ts";

const [OUTPUT, GRADIENT] = [1e-5, 1e-4];
const MODELS = ["mlp", "bert", "cnn"] as const;
const EXPORTERS = ["dynamo", "legacy"] as const;

/** The largest differences met, each over every model, exporter and engine. */
type Worst = {
  mergedVersusInjected: number;
  mergedVersusTorch: number;
  injectedVersusTorch: number;
  gradientVersusTorch: number;
};

export const claim: Claim = {
  name: "graph/first",
  target:
    "Merged ONNX in onnxruntime against the injected training graph on tfjs/wasm and onnxruntime: outputs " +
    "within 1e-5; against torch and PEFT (MLP, BERT, CNN; both exporters): outputs within 1e-5, gradients " +
    "within 1e-4 of the largest element",
  async run(report) {
    await tf.ready();
    const engines = [onnxruntime, tfjsEngine(tf, "wasm")];
    const worst: Worst = {
      mergedVersusInjected: 0,
      mergedVersusTorch: 0,
      injectedVersusTorch: 0,
      gradientVersusTorch: 0,
    };
    let cases = 0;
    for (const model of MODELS) {
      const golden = goldenOf(model);
      if (!golden) continue;
      for (const exporter of EXPORTERS) {
        const met = await measure(benchOf(golden, exporter), engines);
        report(`${model}, ${exporter} exporter: ${shown(met)}`);
        for (const [key, value] of Object.entries(met)) raise(worst, key as keyof Worst, value);
        cases++;
      }
    }
    const outputs = Math.max(worst.mergedVersusInjected, worst.mergedVersusTorch, worst.injectedVersusTorch);
    const complete = cases === MODELS.length * EXPORTERS.length;
    const figures = { ...worst, cases, engines: engines.map(({ name }) => name) };
    return { figures, holds: complete && outputs <= OUTPUT && worst.gradientVersusTorch <= GRADIENT };
  },
};

async function measure(bench: Bench, engines: readonly Engine[]): Promise<Worst> {
  const { bytes, loaded, inputs, injected, feeds, expected } = bench;
  const wanted = expected("output.adapter");
  const merged = (await runFile(merge(bytes, loaded.adapter, loaded.tensors), inputs)).get("output")!;
  const met: Worst = {
    mergedVersusInjected: 0,
    mergedVersusTorch: apart(merged, wanted),
    injectedVersusTorch: 0,
    gradientVersusTorch: 0,
  };
  for (const engine of engines) {
    const output = (await stepOnce(engine, injected, feeds)).get("output")!;
    raise(met, "mergedVersusInjected", apart(merged, output));
    raise(met, "injectedVersusTorch", apart(output, wanted));
    raise(met, "gradientVersusTorch", await bench.gradientError(engine));
  }
  return met;
}

/** Keeps the larger; NaN is larger than anything, so that it can never hold. */
function raise(worst: Worst, key: keyof Worst, value: number): void {
  if (!(value <= worst[key])) worst[key] = Number.isNaN(value) ? Number.POSITIVE_INFINITY : value;
}

function shown(met: Worst): string {
  return Object.entries(met)
    .map(([key, value]) => `${key} ${value.toExponential(1)}`)
    .join(", ");
}
