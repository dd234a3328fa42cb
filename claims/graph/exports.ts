import { readdirSync, readFileSync } from "node:fs";
import { mergeFiles } from "@tutti/adapter/merge";
import { offerOf, resolve } from "@tutti/adapter/resolve";
import type { ResolvedAdapter } from "@tutti/adapter/spec";
import type { Engine } from "@tutti/graph/ir";
import { type Model, read } from "@tutti/graph/read";
import { stepOnce } from "../../libs/adapter/test/bench.ts";
import { apart, runFile } from "../../libs/adapter/test/golden.ts";
import { shared } from "../../libs/graph/test/shared.ts";
import type { Claim } from "../claim.ts";
import { asFeeds, batchFor, bothEngines, drawn, lessonOf, teach } from "../support/graph-adapter.ts";
import { claim as first } from "./first.ts";

const [OUTPUT, GRADIENT] = [1e-5, 1e-4];
const FILES = 14;

/** Of one export: differences are of the largest output, or of the largest element of a gradient. */
type Met = {
  readonly modules: number;
  readonly saved: number;
  readonly mergedVersusInjected: number;
  /** Gradients of one engine against the other's. */
  readonly gradientsApart: number;
  /** The largest element of that gradient whose largest element is the smallest. */
  readonly smallestGradient: number;
  readonly finite: boolean;
};

export const claim: Claim = {
  name: "graph/exports",
  target:
    "conformance/peft (MLP, BERT, CNN; both exporters) against torch and PEFT: outputs and merged within " +
    `1e-5, gradients within 1e-4 of the largest element; each of the ${FILES} files of conformance/exports ` +
    "adapted on all linear layers (models of convolutions: on those; recurrent cells whole): finite " +
    "gradients that agree within 1e-4 on both engines, merged within 1e-5 of injected",
  async run(report) {
    const torch = await first.run(report);
    const folder = shared("conformance/exports");
    const engines = await bothEngines();
    const worst = { mergedVersusInjected: 0, gradientsApart: 0 };
    const files = folder ? readdirSync(folder).filter((name) => name.endsWith(".onnx")) : [];
    let finite = true;
    for (const file of files) {
      const met = await measure(new Uint8Array(readFileSync(`${folder}/${file}`)), engines);
      report(`${file}: ${JSON.stringify(met)}`);
      finite &&= met.finite && met.smallestGradient > 0;
      for (const key of ["mergedVersusInjected", "gradientsApart"] as const)
        worst[key] = Math.max(worst[key], Number.isNaN(met[key]) ? Number.POSITIVE_INFINITY : met[key]);
    }
    const within = worst.mergedVersusInjected <= OUTPUT && worst.gradientsApart <= GRADIENT;
    const holds = torch.holds && files.length === FILES && finite && within;
    return { figures: { torch: torch.figures, files: files.length, finite, ...worst }, holds };
  },
};

async function measure(bytes: Uint8Array, engines: readonly Engine[]): Promise<Met> {
  const model = read(bytes);
  const adapter = adapterOf(model);
  const batch = batchFor(model.graph, 2);
  // Factors that are not zero, so that the gradients of A are not either.
  const start = drawn(adapter, 0.1);
  const lesson = lessonOf(model.graph, adapter, batch);
  const merged = (await runFile(mergeFiles(bytes, adapter, start).model, batch)).values().next().value!;
  const size = Math.max(...merged.map(Math.abs));
  const [outputs, gradients]: [number[], ReadonlyMap<string, Float32Array>[]] = [[], []];
  for (const engine of engines) {
    const results = await stepOnce(engine, lesson.injected, new Map([...batch, ...asFeeds(adapter, start)]));
    outputs.push(apart(results.values().next().value!, merged) / size);
    gradients.push((await teach(engine, lesson, { adapter, start, steps: 1, rate: 0 })).gradients);
  }
  const [one, other] = gradients as [ReadonlyMap<string, Float32Array>, ReadonlyMap<string, Float32Array>];
  const gaps = [...one].map(([name, values]) => {
    return apart(values, other.get(name)!) / Math.max(1e-30, ...values.map(Math.abs));
  });
  return {
    modules: adapter.modules.length,
    saved: adapter.saved.length,
    mergedVersusInjected: Math.max(...outputs),
    gradientsApart: Math.max(...gaps),
    smallestGradient: Math.min(...[...one.values()].map((values) => Math.max(...values.map(Math.abs)))),
    finite: gradients.every((all) => [...all.values()].every((values) => values.every(Number.isFinite))),
  };
}

/** Convolutions where the model has several of them, linear layers otherwise; recurrent cells whole. */
function adapterOf(model: Model): ResolvedAdapter {
  const { candidates, saveables } = offerOf(model);
  const convolutions = candidates.filter(({ kind }) => kind === "conv");
  const targets = convolutions.length > 1 ? convolutions.map(({ module }) => module) : "all-linear";
  const save = saveables.map(({ name }) => name).filter((name) => /\.[WRB](_\d+)?$/.test(name));
  return resolve(model, { rank: 4, alpha: 8, targets, save });
}
