import type { Claim } from "../claim.ts";
import { checkVectors, EPSILONS, GRIDS } from "../support/privacy/vectors.ts";
import { checkChaCha20, checkFinder, checkShamir, checkX25519 } from "../support/secagg/vectors.ts";

const TOLERANCE = 1e-6;
const RANDOM_CASES = 200;

export const claim: Claim = {
  name: "secagg/vectors",
  target:
    "all vectors of the secure sum and its privacy: RFC 8439's ChaCha20 by the kernel; k and t; ε within " +
    `${TOLERANCE} (relative); the discrete Gaussian's parameters to the printed digits; Shamir by the ` +
    "package and by Lagrange's formula; X25519 by tweetnacl, node:crypto and WebCrypto, also at random",
  async run(report) {
    const exact = {
      chacha20: checkChaCha20(),
      finder: checkFinder(),
      shamir: await checkShamir(RANDOM_CASES),
      x25519: await checkX25519(RANDOM_CASES),
    };
    const { errors, wrongGrids } = checkVectors();
    const worst = Math.max(...errors);
    const wrong = [...Object.values(exact).flatMap((each) => each.wrong), ...wrongGrids];
    for (const line of wrong) report(line);
    const figures = {
      chacha20: exact.chacha20.vectors,
      finder: exact.finder.vectors,
      accountant: errors.length,
      accountantWorstRelativeError: worst,
      discreteGaussian: GRIDS.length,
      shamir: exact.shamir.vectors,
      x25519: exact.x25519.vectors,
      wrong,
    };
    // A list that came out empty would hold of everything.
    const whole =
      errors.length === EPSILONS.length && Object.values(exact).every(({ vectors }) => vectors > 0);
    return { figures, holds: whole && wrong.length === 0 && worst <= TOLERANCE };
  },
};
