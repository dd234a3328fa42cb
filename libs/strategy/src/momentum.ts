import { assert } from "@tutti/foundation/check";
import type { Rule } from "./types.ts";

/** Server momentum, FedAvgM (Hsu et al. 2019, section 4.3): v ← βv + Δ, and the step is v. */
export function momentum(beta: number): Rule {
  return {
    begin: (length) => [new Float32Array(length)],
    apply: (mean, [velocity]) => {
      assert(velocity?.length === mean.length, "momentum: a velocity for each coordinate");
      const next = velocity.map((value, i) => beta * value + mean[i]!);
      return [next, [next]];
    },
  };
}
