import type { Rule } from "./types.ts";

/**
 * The mean times `rate`: FedAvg (McMahan et al. 2017) at 1, the server learning rate η of Reddi et al. 2021.
 */
export function scale(rate: number): Rule {
  return {
    begin: () => [],
    apply: (mean, held) => [mean.map((value) => value * rate), held],
  };
}
