import { readTensors, writeSafetensors } from "@tutti/adapter/formats/safetensors";
import { initialAdapter } from "@tutti/adapter/initial";
import { merge } from "@tutti/adapter/merge";
import { resolve } from "@tutti/adapter/resolve";
import type { Split } from "@tutti/client-sdk/examples";
import { examplesFromArrays, splitExamples } from "@tutti/client-sdk/examples";
import type { Runtime } from "@tutti/client-sdk/model";
import { Fault } from "@tutti/foundation/fault";
import { sha256Hex } from "@tutti/foundation/hash";
import { seededRandom } from "@tutti/foundation/random";
import { type Engine, float32, sizeOf, type Tensor, type Tensors, type TracedGraph } from "@tutti/graph/ir";
import { mlp } from "@tutti/graph/make/mlp";
import { read } from "@tutti/graph/read";
import { int64 } from "@tutti/graph/tensor";
import { write } from "@tutti/graph/write";
import { type Plan, parsePlan, planBytes } from "@tutti/plan/plan";

/** The smallest model with an adapter: three features, two classes, rank 1; five numbers travel. */
const INPUTS = 3;
const CLASSES = 2;
const ADAPTER = { rank: 1, alpha: 2, targets: "all-linear" } as const;

const made = seededRandom("the model of every simulation");
export const BASE = write(
  mlp({ inputs: INPUTS, hidden: [], outputs: CLASSES, random: made, inputName: "x", outputName: "y" }),
);
const model = read(BASE);
const resolved = resolve(model, { ...ADAPTER, save: [] });
const first = initialAdapter(resolved, made.fork("initial"), model);
export const INITIAL = writeSafetensors(
  resolved.tensors.map(({ name, shape }) => ({ name, shape, data: first.get(name)! })),
);

/** A plan over that model; `change` is laid over the raw JSON, section by section. */
export function planOf(change: Record<string, unknown>): Plan {
  const raw = {
    version: 1,
    base: { sha256: sha256Hex(BASE), bytes: BASE.length },
    tensors: resolved.tensors,
    initial: { sha256: sha256Hex(INITIAL), bytes: INITIAL.length },
    loss: "softmax-cross-entropy",
    train: { optimiser: { name: "sgd", learningRate: 0.1 }, steps: 2, batchSize: 4 },
    update: { clipNorm: 10, clip: 1, maxWeight: 100 },
    ...change,
    adapter: { ...ADAPTER, method: "fedit", ...((change.adapter as object | undefined) ?? {}) },
  };
  return parsePlan(planBytes(raw as unknown as Plan));
}

/** A device's rows: few, its own, the same in every simulation. */
export function rowsOf(device: string, plan: Plan): Split {
  const chance = seededRandom(`rows of ${device}`);
  const count = 6 + chance.below(4);
  const values = Float32Array.from({ length: count * INPUTS }, () => chance.normal());
  const label = int64(Array.from({ length: count }, () => chance.below(CLASSES)));
  const examples = examplesFromArrays({ inputs: { x: float32([count, INPUTS], values) }, label });
  return splitExamples(examples, plan.evaluation.holdout, chance.fork("split"));
}

/** What activation of a release must have written, byte for byte. */
export function mergedWith(plan: Plan, adapter: Uint8Array): Uint8Array {
  return merge(BASE, resolved, readTensors(plan.tensors, adapter));
}

/**
 * In place of training: numbers of the right shapes that follow from the feeds alone, bounded, and different
 * for every device and step. Everything around a step is the SDK's own.
 */
export const engine: Engine = {
  name: "simulated",
  load: async (graph) => ({ step: async (feeds) => stepped(graph, feeds), dispose: async () => {} }),
};

function stepped(graph: TracedGraph, feeds: Tensors): Tensors {
  const seed = mixed(feeds);
  const weights = feeds.get("row_weight")!.data as Float32Array;
  const weight = weights.reduce((sum, value) => sum + value, 0);
  const lossOf = 0.25 + (seed % 512) / 1024;
  const known: Record<string, number> = {
    loss: lossOf,
    loss_sum: lossOf * weight,
    weight_sum: weight,
    correct: Math.floor(weight / 2),
  };
  const outputs = graph.outputs.map(({ name }, place): [string, Tensor] => {
    const { shape } = graph.statics.get(name)!;
    const one = known[name];
    const at = (index: number) =>
      one ?? (((seed ^ (place * 7919 + index * 104_729)) >>> 3) % 2048) / 1024 - 1;
    return [
      name,
      float32(
        shape,
        Float32Array.from({ length: sizeOf(shape) }, (_, index) => at(index)),
      ),
    ];
  });
  return new Map(outputs);
}

/** FNV-1a over the bits of what was fed. */
function mixed(feeds: Tensors): number {
  let hash = 0x811c9dc5;
  for (const { data } of feeds.values()) {
    const { buffer, byteOffset, byteLength } = data as Float32Array;
    for (const byte of new Uint8Array(buffer, byteOffset, byteLength))
      hash = Math.imul(hash ^ byte, 0x01000193) >>> 0;
  }
  return hash;
}

/** In place of onnxruntime: loads what is an ONNX file, says which, and answers something finite. */
export function runtimeOf(): Runtime {
  return {
    open: async (bytes) => {
      if (!readable(bytes)) throw new Fault("bad-input", "model", { expected: "an ONNX file" });
      return {
        run: async () => new Map([["y", float32([1, 1], Float32Array.of(1))]]),
        release: async () => {},
      };
    },
  };
}

const sound = new Set<string>();

function readable(bytes: Uint8Array): boolean {
  const name = sha256Hex(bytes);
  if (sound.has(name)) return true;
  try {
    read(bytes);
    sound.add(name);
    return true;
  } catch {
    return false;
  }
}
