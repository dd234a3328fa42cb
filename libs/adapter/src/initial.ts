import { assert } from "@tutti/foundation/check";
import { Fault } from "@tutti/foundation/fault";
import type { SeededRandom } from "@tutti/foundation/random";
import { sizeOf } from "@tutti/graph/ir";
import type { Model } from "@tutti/graph/read";
import { type AdaptedModule, factorSpecs, type ResolvedAdapter } from "./spec.ts";
import { floatsOf } from "./whole.ts";

/**
 * Where training starts: the adapted model answers as the base does. B is zero and A Kaiming-uniform with
 * slope √5 (He et al. 2015, equation 14), as in PEFT: uniform in ±1/√fan-in. Saved tensors are the base's, in
 * float32: halves widened, levels dequantised.
 * Each tensor has a random stream of its own, so that adding a target does not change the others.
 * @throws Fault("refused") when `model` is not the base that was resolved.
 */
export function initialAdapter(
  adapter: ResolvedAdapter,
  random: SeededRandom,
  model: Model,
): Map<string, Float32Array> {
  const tensors = new Map<string, Float32Array>();
  for (const module of adapter.modules) {
    const [a, b] = factorSpecs(module);
    const bound = 1 / Math.sqrt(fanIn(module));
    const stream = random.fork(a.name);
    const draw = () => (2 * stream.uniform() - 1) * bound;
    tensors.set(a.name, Float32Array.from({ length: sizeOf(a.shape) }, draw));
    tensors.set(b.name, new Float32Array(sizeOf(b.shape)));
  }
  for (const saved of adapter.saved) {
    const { name, initializer } = saved;
    const base = floatsOf(model.graph, saved);
    if (!base) throw new Fault("refused", `initial ${name}`, { expected: `${initializer} of the base` });
    tensors.set(name, base);
  }
  assert(tensors.size === adapter.tensors.length, "every tensor of the adapter has a beginning");
  return tensors;
}

/** Inputs that one output adds up. A table's row is picked by a one-hot vector, whose fan-in is 1. */
function fanIn({ kind, in: width, kernel }: AdaptedModule): number {
  return kind === "embedding" ? 1 : width * sizeOf(kernel);
}
