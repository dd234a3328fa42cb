import * as tf from "@tensorflow/tfjs-core";
import "@tensorflow/tfjs-backend-cpu";
import { setThreadsCount, setWasmPaths } from "@tensorflow/tfjs-backend-wasm";
import "@tensorflow/tfjs-backend-webgl";
import "@tensorflow/tfjs-backend-webgpu";
import { inject } from "@tutti/adapter/inject";
import { resolve } from "@tutti/adapter/resolve";
import { asFault } from "@tutti/foundation/fault";
import { seededRandom } from "@tutti/foundation/random";
import { differentiate } from "@tutti/graph/differentiate";
import type { Choice } from "@tutti/graph/engines/auto";
import { type Onnxruntime, onnxruntimeEngine } from "@tutti/graph/engines/onnxruntime/engine";
import { tfjsEngine } from "@tutti/graph/engines/tfjs/engine";
import { type Engine, sizeOf, type Tensors, type TracedGraph } from "@tutti/graph/ir";
import { withLoss } from "@tutti/graph/loss";
import { transformer } from "@tutti/graph/make/transformer";
import { read } from "@tutti/graph/read";
import { tensorOf } from "@tutti/graph/tensor";
import { trace } from "@tutti/graph/trace";
import { write } from "@tutti/graph/write";
import { browserEngine, probe } from "../../apps/client-sdk/src/browser/engine.ts";

// What the test of engines runs in a page and, for comparison, in Node. It imports no Node module.

/** The loss and every gradient of one step, by output name; or why the engine did not run. */
export type Answer =
  | { readonly values: Readonly<Record<string, readonly number[]>> }
  | { readonly refused: string };

const [BATCH, LENGTH, VOCABULARY] = [4, 12, 50] as const;

/** A BERT-shaped encoder's training step, and a seeded batch: the same in a page and in Node. */
export function lesson(): { readonly step: TracedGraph; readonly feeds: Tensors } {
  const random = seededRandom("engines in a page");
  const model = read(
    write(
      transformer({
        ...{ kind: "encoder", layers: 2, width: 32, heads: 4, vocabulary: VOCABULARY, length: LENGTH },
        ...{ head: { classes: 3 }, random },
      }),
    ),
  );
  const adapter = resolve(model, { rank: 4, alpha: 8, targets: "all-linear" });
  const traced = trace(model.graph, { symbols: { batch: BATCH, length: LENGTH } });
  const judged = withLoss(inject(traced, adapter), { kind: "softmax-cross-entropy" });
  const step = differentiate(judged, { loss: "loss", wrt: adapter.tensors.map(({ name }) => name) });
  const draws: Readonly<Record<string, () => number>> = {
    input_ids: () => Math.floor(random.uniform() * VOCABULARY),
    attention_mask: () => 1,
    label: () => Math.floor(random.uniform() * 3),
    row_weight: () => 1,
  };
  const feeds = step.inputs.map(({ name }) => {
    const { dtype, shape } = step.statics.get(name)!;
    const draw = draws[name] ?? (() => 0.1 * random.normal());
    return [name, tensorOf(dtype, shape, Array.from({ length: sizeOf(shape) }, draw))] as const;
  });
  return { step, feeds: new Map(feeds) };
}

export async function answer(engine: Engine): Promise<Answer> {
  const { step, feeds } = lesson();
  try {
    const program = await engine.load(step);
    const results = await program.step(feeds);
    await program.dispose();
    const told = [...results].filter(([name]) => name === "loss" || name.startsWith("grad."));
    return {
      values: Object.fromEntries(told.map(([name, { data }]) => [name, Array.from(data as Float32Array)])),
    };
  } catch (error) {
    return { refused: asFault(error).message };
  }
}

/** onnxruntime-web, which the page loads from its own file: it finds its WebAssembly beside it. */
type Web = Onnxruntime & { env: { wasm: { wasmPaths: string; numThreads: number } } };

/** What a page answers, and what its engine `auto` made of onnxruntime on webgpu. */
export type Answers = {
  readonly steps: Readonly<Record<string, Answer>>;
  readonly choice: { readonly engine: string; readonly refused: readonly string[] };
};

/** Every engine and backend of a page, and what `browserEngine` takes; by name. */
export async function inPage(ort: Web): Promise<Answers> {
  ort.env.wasm.wasmPaths = "/ort/";
  // A page that is not isolated from other origins has no threads.
  ort.env.wasm.numThreads = 1;
  setWasmPaths("/tfjs/");
  setThreadsCount(1);
  const steps: Record<string, Answer> = {};
  for (const backend of ["webgpu", "webgl", "wasm", "cpu"])
    steps[`tfjs/${backend}`] = await answer(tfjsEngine(tf, backend));
  for (const provider of ["wasm", "webgl", "webgpu"])
    steps[`onnxruntime/${provider}`] = await answer(
      onnxruntimeEngine(ort, { executionProviders: [provider] }),
    );
  const chosen = await browserEngine("tfjs", { tf });
  steps[`browserEngine tfjs: ${chosen.name}`] = await answer(chosen);
  const auto = await browserEngine("auto", { tf, onnxruntime: ort });
  const told = await answer(auto);
  steps[`browserEngine auto: ${auto.name}`] = told;
  const choice = await onWebgpu(ort);
  // Last, since it changes the backend for good.
  steps[HALVES] = await inHalves();
  return { steps, choice };
}

/** Whether `auto` believes onnxruntime on webgpu, where that runs. */
async function onWebgpu(ort: Web): Promise<Answers["choice"]> {
  let found: Choice | undefined;
  const auto = await browserEngine("auto", {
    ...{ tf, onnxruntime: ort, onnxruntimeOptions: { executionProviders: ["webgpu"] } },
    auto: { rounds: 1, onChosen: (choice) => (found = choice) },
  });
  await answer(auto);
  const refused = (found?.refused ?? []).map(({ because }) => because.message);
  return { engine: found?.engine ?? "none", refused };
}

/** WebGL that keeps numbers in 16 bits, as many phones do: `probe` is to refuse it by name. */
export const HALVES = "tfjs/webgl in 16 bits";

async function inHalves(): Promise<Answer> {
  const factory = tf.findBackendFactory("webgl");
  tf.removeBackend("webgl");
  tf.env().set("WEBGL_RENDER_FLOAT32_ENABLED", false);
  tf.registerBackend("webgl", factory);
  const engine = tfjsEngine(tf, "webgl");
  try {
    await probe(engine);
  } catch (error) {
    return { refused: asFault(error).message };
  }
  return answer(engine);
}
