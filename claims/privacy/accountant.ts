import type { Claim } from "../claim.ts";
import { checkVectors, EPSILONS, GRIDS } from "../support/privacy/vectors.ts";

const TOLERANCE = 1e-6;

export const claim: Claim = {
  name: "privacy/accountant",
  target:
    "ε of the accountant within 1e-6 (relative) of what dp_accounting and Opacus say, on every row of the " +
    "table; scale, local noise and ε of the distributed discrete Gaussian to the printed digits",
  async run(report) {
    const { errors, wrongGrids } = checkVectors();
    for (const [at, { epsilon, noiseMultiplier, sampling, steps, delta }] of EPSILONS.entries()) {
      const error = errors[at]!.toExponential(1);
      report(
        `z ${noiseMultiplier}, q ${sampling}, ${steps} steps, δ ${delta}: ε ${epsilon}, off by ${error}`,
      );
    }
    const worst = Math.max(...errors);
    const figures = { rows: EPSILONS.length, worst, grids: GRIDS.length, wrongGrids };
    return { figures, holds: worst <= TOLERANCE && wrongGrids.length === 0 };
  },
};
