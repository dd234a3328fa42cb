import { logAdd, logErfc, logSub } from "./special.ts";

/** An order α > 1, the noise multiplier σ, and the probability q < 1 with which a device is in the sample. */
export type Sampled = { readonly order: number; readonly sigma: number; readonly q: number };

/**
 * ln A_α of the sampled Gaussian for a whole α, by the binomial sum (Mironov, Talwar and Zhang 2019, section
 * 3.3); its RDP is ln A_α / (α − 1).
 */
export function logMoment({ order, sigma, q }: Sampled): number {
  return logBinomialSum(order, q, (a) => (a * a - a) / (2 * sigma ** 2));
}

/**
 * ln A_α of any mechanism with RDP α/(2σ²), sampled, from above: Zhu and Wang 2019, the general upper bound,
 * in which the terms from the third on count three times. Kairouz et al. 2021 account the distributed
 * discrete Gaussian so. Infinite between whole orders, where nothing is proven.
 */
export function logMomentOfAny({ order, sigma, q }: Sampled): number {
  if (!Number.isInteger(order)) return Infinity;
  const factor = Math.log(3);
  return logBinomialSum(order, q, (a) => (a * a - a) / (2 * sigma ** 2) + (a < 3 ? 0 : factor));
}

/** ln Σ_a C(α, a) (1−q)^{α−a} q^a e^{weight(a)}. */
function logBinomialSum(order: number, q: number, weight: (a: number) => number): number {
  let sum = -Infinity;
  let logBinomial = 0;
  for (let a = 0; a <= order; a++) {
    sum = logAdd(sum, logBinomial + a * Math.log(q) + (order - a) * Math.log1p(-q) + weight(a));
    logBinomial += Math.log((order - a) / (a + 1));
  }
  return sum;
}

/** A term this far below the sum, in nats, ends a series. */
const NEGLIGIBLE = 30;
/** An order whose series is longer than this is left out: its RDP counts as infinite. */
const MAX_TERMS = 1000;

/**
 * ln A_α of the sampled Gaussian between whole orders: the integral is cut at z₀, where both densities weigh
 * the same, and each half expanded into a binomial series of half-infinite Gaussian integrals (Mironov,
 * Talwar and Zhang 2019, section 3.3). Beyond the order α the signs alternate; `series` says whether they are
 * kept.
 */
export function logMomentBetween({ order, sigma, q }: Sampled, series: "sizes" | "signed"): number {
  const cut = sigma ** 2 * Math.log(1 / q - 1) + 0.5;
  const term = (power: number, tail: number) =>
    power * Math.log(q) +
    (order - power) * Math.log1p(-q) +
    (power * power - power) / (2 * sigma ** 2) +
    logErfc(tail / (Math.SQRT2 * sigma)) -
    Math.LN2;
  let [sum, last, logBinomial, sign] = [-Infinity, Infinity, 0, 1];
  for (let i = 0; i < MAX_TERMS; i++) {
    const rest = order - i;
    const pair = logBinomial + logAdd(term(i, i - cut), term(rest, cut - rest));
    sum = sign > 0 || series === "sizes" ? logAdd(sum, pair) : logSub(sum, pair);
    if (pair < last && pair < sum - NEGLIGIBLE) return sum;
    last = pair;
    sign *= Math.sign(rest);
    logBinomial += Math.log(Math.abs(rest) / (i + 1));
  }
  return Infinity;
}
