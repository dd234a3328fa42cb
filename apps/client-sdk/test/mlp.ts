import { writeSafetensors } from "@tutti/adapter/formats/safetensors";
import { initialAdapter } from "@tutti/adapter/initial";
import { resolve } from "@tutti/adapter/resolve";
import { sha256Hex } from "@tutti/foundation/hash";
import { type SeededRandom, seededRandom } from "@tutti/foundation/random";
import { float32 } from "@tutti/graph/ir";
import { mlp } from "@tutti/graph/make/mlp";
import { read } from "@tutti/graph/read";
import { int64 } from "@tutti/graph/tensor";
import { write } from "@tutti/graph/write";
import type { Plan } from "@tutti/plan/plan";
import type { Examples } from "@tutti/train/batches";
import { examplesFromArrays } from "../src/examples.ts";
import { planOf } from "./fixture.ts";

/** A small base model, its first adapter and a plan for them. */
export function prepared(change: Record<string, unknown> = {}): {
  base: Uint8Array;
  initial: Uint8Array;
  parameters: Map<string, Float32Array>;
  plan: Plan;
} {
  const random = seededRandom("a small model");
  const graph = mlp({ inputs: 4, hidden: [8], outputs: 3, random, inputName: "x", outputName: "y" });
  const base = write(graph);
  const adapter = { method: "fedit", rank: 2, alpha: 4, targets: "all-linear", ...(change.adapter ?? {}) };
  const model = read(base);
  const resolved = resolve(model, { ...adapter, targets: "all-linear", save: [] });
  const parameters = initialAdapter(resolved, random.fork("initial"), model);
  const initial = writeSafetensors(
    resolved.tensors.map(({ name, shape }) => ({ name, shape, data: parameters.get(name)! })),
  );
  const plan = planOf({
    base: { sha256: sha256Hex(base), bytes: base.length },
    tensors: resolved.tensors,
    initial: { sha256: sha256Hex(initial), bytes: initial.length },
    ...change,
    adapter,
  });
  return { base, initial, parameters: new Map(parameters), plan };
}

/** Three clouds in four dimensions, one per class: learnable, and different for every seed. */
export function clouds(count: number, random: SeededRandom): Examples {
  const labels = Array.from({ length: count }, () => random.below(3));
  const values = labels.flatMap((label) =>
    [0, 1, 2, 3].map((axis) => (axis === label ? 2 : 0) + random.normal() * 0.5),
  );
  return examplesFromArrays({
    inputs: { x: float32([count, 4], Float32Array.from(values)) },
    label: int64(labels),
  });
}
