import { assert } from "@tutti/foundation/check";
import type { Rule } from "./types.ts";

export type AdamOptions = { beta1: number; beta2: number; epsilon: number };

/**
 * FedAdam (Reddi et al. 2021, Algorithm 2), before its learning rate η, for which chain `scale(η)` behind it:
 * m ← β1·m + (1−β1)·Δ;  v ← β2·v + (1−β2)·Δ²;  the step is m / (√v + τ), τ being `epsilon`.
 * As there, no bias correction, and v starts at τ² (the paper asks for v₋₁ ≥ τ²), so the first steps are
 * small.
 */
export function adam({ beta1, beta2, epsilon }: AdamOptions): Rule {
  return {
    begin: (length) => [new Float32Array(length), new Float32Array(length).fill(epsilon * epsilon)],
    apply: (mean, [first, second]) => {
      assert(first?.length === mean.length && second?.length === mean.length, "adam: two moments for each");
      const m = first.map((value, i) => beta1 * value + (1 - beta1) * mean[i]!);
      const v = second.map((value, i) => beta2 * value + (1 - beta2) * mean[i]! ** 2);
      return [m.map((value, i) => value / (Math.sqrt(v[i]!) + epsilon)), [m, v]];
    },
  };
}
