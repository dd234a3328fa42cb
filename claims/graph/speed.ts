import { createHash } from "node:crypto";
import "@tensorflow/tfjs-backend-wasm";
import * as tf from "@tensorflow/tfjs-core";
import { merge } from "@tutti/adapter/merge";
import { systemClock } from "@tutti/foundation/clock";
import { seededRandom } from "@tutti/foundation/random";
import { onnxruntimeEngine } from "@tutti/graph/engines/onnxruntime/engine";
import { tfjsEngine } from "@tutti/graph/engines/tfjs/engine";
import { sizeOf, type Tensors } from "@tutti/graph/ir";
import { type Model, read } from "@tutti/graph/read";
import { write } from "@tutti/graph/write";
import * as ort from "onnxruntime-node";
import {
  contender,
  type GraphBench,
  graphBench,
  quartilesOf,
  race,
  ratioOf,
  type Spread,
} from "../../apps/cli/src/bench/graph.ts";
import type { Claim } from "../claim.ts";
import { byHand, registerGradients } from "../support/graph-autodiff.ts";
import { ADAPTER, BATCH, encoder, LENGTH, MODEL } from "../support/graph-model.ts";

const [STEP_PER_FORWARD, AUTODIFF_PER_STEP, DERIVE_MS, MERGE_MS] = [2.8, 4, 1000, 300] as const;
const THREADS = 1;
const clock = systemClock();

export const claim: Claim = {
  name: "graph/speed",
  target:
    `${MODEL}: a step on onnxruntime takes at most ${STEP_PER_FORWARD} of the base's forward pass; a step ` +
    `on tfjs/wasm is at least ${AUTODIFF_PER_STEP} times faster than by tfjs's own autodiff; trace, inject ` +
    `and differentiate at most ${DERIVE_MS} ms; merge at most ${MERGE_MS} ms (medians, one thread)`,
  async run(report) {
    await tf.setBackend("wasm");
    const model = read(write(encoder()));
    const derive = () =>
      graphBench(model, {
        adapter: ADAPTER,
        bind: { symbols: { batch: BATCH, length: LENGTH } },
        loss: { kind: "softmax-cross-entropy" },
        random: seededRandom("feeds"),
        clock,
      });
    const benches = Array.from({ length: 5 }, derive);
    const deriveMs = quartilesOf(benches.map((bench) => bench.deriveMs));
    report(`trace, inject, differentiate: ${shown(deriveMs)} ms`);
    const bench = benches[0]!;
    const mergeMs = mergeTimes(model, bench);
    report(`merge: ${shown(mergeMs)} ms`);
    const onnxruntime = await stepPerForward(bench);
    report(`onnxruntime, step over base forward: ${shown(onnxruntime.ratio)}`);
    const tfjs = await autodiffPerStep(model, bench);
    report(`tfjs/wasm, autodiff over our step: ${shown(tfjs.ratio)}`);
    const figures = {
      onnxruntime,
      tfjs,
      deriveMs: rounded(deriveMs),
      mergeMs: rounded(mergeMs),
      threads: THREADS,
    };
    const fast = onnxruntime.ratio.median <= STEP_PER_FORWARD && tfjs.ratio.median >= AUTODIFF_PER_STEP;
    const same = tfjs.worstDifference <= 1e-3;
    return { figures, holds: fast && same && deriveMs.median <= DERIVE_MS && mergeMs.median <= MERGE_MS };
  },
};

function mergeTimes(model: Model, { adapter, feeds }: GraphBench): Spread {
  const tensors = new Map(adapter.tensors.map(({ name }) => [name, feeds.get(name)!.data as Float32Array]));
  const times = Array.from({ length: 7 }, () => {
    const startedMs = clock.nowMs();
    merge(model.bytes, adapter, tensors, { sha256Hex });
    return clock.nowMs() - startedMs;
  });
  return quartilesOf(times.slice(2));
}

/** Node's own, as an app in Node would pass it. */
const sha256Hex = (bytes: Uint8Array) => createHash("sha256").update(bytes).digest("hex");

async function stepPerForward({ traced, step, feeds }: GraphBench) {
  const engine = onnxruntimeEngine(ort, {
    session: { intraOpNumThreads: THREADS, interOpNumThreads: THREADS },
  });
  const runners = {
    forward: await contender(engine, traced, feeds),
    step: await contender(engine, step, feeds),
  };
  const times = await race(runners, { rounds: 21, warmUps: 3, clock });
  for (const runner of Object.values(runners)) await runner.dispose();
  const [forwardMs, stepMs] = [rounded(quartilesOf(times.forward)), rounded(quartilesOf(times.step))];
  return { ratio: rounded(ratioOf(times.step, times.forward)), forwardMs, stepMs };
}

/** tfjs's wasm runs on one thread in Node; so does the step by hand. */
async function autodiffPerStep(model: Model, { step, feeds }: GraphBench) {
  const engine = tfjsEngine(tf, "wasm");
  const program = await engine.load(step);
  await registerGradients();
  const hand = byHand(tf, model.graph, feeds);
  const { loss, gradients } = await hand.values();
  const ours = await program.step(feeds);
  const worstDifference = apart(ours, new Map([...gradients].map(([name, data]) => [`grad.${name}`, data])));
  const lossDifference = Math.abs((ours.get("loss")!.data as Float32Array)[0]! - loss);
  const runners = { hand, step: { run: () => program.step(feeds), dispose: () => program.dispose() } };
  const times = await race(runners, { rounds: 5, warmUps: 1, clock });
  for (const runner of Object.values(runners)) await runner.dispose();
  const [handMs, stepMs] = [rounded(quartilesOf(times.hand)), rounded(quartilesOf(times.step))];
  return { ratio: rounded(ratioOf(times.hand, times.step)), handMs, stepMs, worstDifference, lossDifference };
}

/** The largest difference of any gradient, relative to that gradient's largest element. */
function apart(ours: Tensors, wanted: ReadonlyMap<string, Float32Array>): number {
  const errors = [...wanted].map(([name, values]) => {
    const { data, shape } = ours.get(name)!;
    if (sizeOf(shape) !== values.length) return Number.POSITIVE_INFINITY;
    const largest = values.reduce((most, value) => Math.max(most, Math.abs(value)), 1e-20);
    const worst = values.reduce(
      (most, value, at) => Math.max(most, Math.abs(value - (data as Float32Array)[at]!)),
      0,
    );
    return Number.isNaN(worst) ? Number.POSITIVE_INFINITY : worst / largest;
  });
  return Math.max(...errors);
}

function rounded({ median, low, high }: Spread): Spread {
  const [a, b, c] = [median, low, high].map((value) => Number(value.toPrecision(3)));
  return { median: a!, low: b!, high: c! };
}

function shown(spread: Spread): string {
  const { median, low, high } = rounded(spread);
  return `${median} (${low} to ${high})`;
}
