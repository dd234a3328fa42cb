/**
 * One training step in a process of its own: `graph-memory-child.ts <engine> <model.onnx>` prints resident
 * sizes in bytes as one line of JSON. Parent: claims/graph/memory.ts.
 */
import { readFileSync } from "node:fs";
import { systemClock } from "@tutti/foundation/clock";
import { seededRandom } from "@tutti/foundation/random";
import { onnxruntimeEngine } from "@tutti/graph/engines/onnxruntime/engine";
import { tfjsEngine } from "@tutti/graph/engines/tfjs/engine";
import type { Engine, Program } from "@tutti/graph/ir";
import { peakBytes } from "@tutti/graph/memory";
import { type Model, read } from "@tutti/graph/read";
import { type GraphBench, graphBench } from "../../apps/cli/src/bench/graph.ts";
import { ADAPTER, BATCH, LENGTH } from "./graph-model.ts";

/** Steps that are run: the first one allocates, later ones may still grow a heap. */
const STEPS = 3;

async function engineOf(name: string): Promise<Engine> {
  if (name === "onnxruntime") {
    const ort = await import("onnxruntime-node");
    return onnxruntimeEngine(ort, { session: { intraOpNumThreads: 1, interOpNumThreads: 1 } });
  }
  const tf = await import("@tensorflow/tfjs-core");
  await import("@tensorflow/tfjs-backend-wasm");
  await tf.setBackend("wasm");
  return tfjsEngine(tf, "wasm");
}

function derived(model: Model): GraphBench {
  return graphBench(model, {
    adapter: ADAPTER,
    bind: { symbols: { batch: BATCH, length: LENGTH } },
    loss: { kind: "softmax-cross-entropy" },
    random: seededRandom("feeds"),
    clock: systemClock(),
  });
}

/** The program, and nothing else that would keep the model's file or the graph's forms alive. */
async function loaded(engine: Engine, path: string) {
  const model = read(readFileSync(path));
  const modelRss = process.memoryUsage.rss();
  const { step, feeds } = derived(model);
  const program: Program = await engine.load(step);
  return { program, feeds, modelRss, plannedBytes: peakBytes(step) };
}

const [name, path] = process.argv.slice(2);
const engine = await engineOf(name ?? "tfjs");
const libraryRss = process.memoryUsage.rss();
const { program, feeds, modelRss, plannedBytes } = await loaded(engine, path ?? "");
const loadedRss = process.memoryUsage.rss();
for (let step = 0; step < STEPS; step++) await program.step(feeds);
const peakRss = process.resourceUsage().maxRSS * 1024;
console.log(JSON.stringify({ libraryRss, modelRss, loadedRss, peakRss, plannedBytes }));
