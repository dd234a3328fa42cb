import { assert } from "@tutti/foundation/check";
import { Fault } from "@tutti/foundation/fault";
import { logMoment, logMomentBetween, logMomentOfAny } from "./moments.ts";

/*
 * Rényi differential privacy of the Gaussian mechanism. Neighbours differ in one device, whose contribution
 * is there or is replaced by zeros. A mechanism's RDP is a number per order; numbers add over rounds (Mironov
 * 2017, Proposition 1), and become an ε for a δ only at the end.
 */

/** Orders α at which RDP is kept: dense where ε between 1 and 10 is decided, sparse for tiny ones. */
export const ORDERS: readonly number[] = [
  ...Array.from({ length: 99 }, (_, at) => 1 + (at + 1) / 10),
  ...Array.from({ length: 53 }, (_, at) => 11 + at),
  ...[128, 256, 512, 1024],
];

assert(ORDERS.length === 156 && ORDERS[0] === 1.1 && ORDERS[98] === 10.9, "the grid is 1.1 to 1024");

/**
 * `steps` rounds of noise whose standard deviation is `noiseMultiplier` times the L2 sensitivity, each over a
 * Poisson sample in which a device is with probability `sampling` (1: every device, every round).
 */
export type Mechanism = {
  readonly noiseMultiplier: number;
  readonly sampling: number;
  readonly steps: number;
  /**
   * What the noise is, where it matters: sampling amplifies by a formula of the Gaussian's own, but for the
   * discrete Gaussian only a general bound is proven, which costs more. Default "gaussian"; with sampling 1
   * both are alike.
   */
  readonly noise?: "gaussian" | "discrete";
  /**
   * How the series of a sampled Gaussian's fractional orders are summed. "sizes" (the default, and
   * dp_accounting's way) adds every term by its size: an upper bound. "signed" (Opacus's way) keeps the
   * signs: the value itself.
   */
  readonly series?: "sizes" | "signed";
};

/** RDP at each of ORDERS, in nats. @throws Fault("bad-input") for numbers that describe no mechanism. */
export function rdpOf(mechanism: Mechanism): readonly number[] {
  const { noiseMultiplier, sampling, steps } = mechanism;
  checkPositive("noise multiplier", noiseMultiplier);
  if (!(sampling >= 0 && sampling <= 1))
    throw new Fault("bad-input", "sampling", { expected: "a probability, 0 to 1", got: `${sampling}` });
  if (!(Number.isInteger(steps) && steps >= 0))
    throw new Fault("bad-input", "steps", { expected: "a natural number", got: `${steps}` });
  if (steps === 0 || sampling === 0) return ORDERS.map(() => 0);
  return ORDERS.map((order) => steps * rdpAt(order, mechanism));
}

/** RDP of mechanisms that run one after another, each allowed to depend on what came before. */
export function composeRdp(...parts: readonly (readonly number[])[]): readonly number[] {
  return ORDERS.map((_, at) => parts.reduce((sum, part) => sum + part[at]!, 0));
}

/**
 * The ε for `delta`, and the order it was found at: Canonne, Kamath and Steinke 2020, Proposition 12. Every
 * order gives a valid ε, so the least of them is one.
 */
export function epsilonOf(
  rdp: readonly number[],
  delta: number,
): { readonly epsilon: number; readonly order: number } {
  checkDelta(delta);
  assert(rdp.length === ORDERS.length, "RDP has a number per order");
  let best = { epsilon: Infinity, order: ORDERS[0]! };
  for (const [at, order] of ORDERS.entries()) {
    // A divergence of nothing means that both outputs are alike.
    if (rdp[at] === 0) return { epsilon: 0, order };
    const epsilon = rdp[at]! + Math.log1p(-1 / order) - Math.log(delta * order) / (order - 1);
    if (epsilon < best.epsilon) best = { epsilon, order };
  }
  return { ...best, epsilon: Math.max(0, best.epsilon) };
}

/**
 * ρ of one unsampled Gaussian: 1/(2z²), in zero-concentrated differential privacy (Bun and Steinke 2016). It
 * composes by adding, and ρ means RDP α·ρ at every order α.
 */
export function rhoOf(noiseMultiplier: number): number {
  checkPositive("noise multiplier", noiseMultiplier);
  return 1 / (2 * noiseMultiplier ** 2);
}

/**
 * The ε of a sum of ρ, by the same orders and conversion as for RDP: one number whichever way it is counted.
 */
export function epsilonOfRho(rho: number, delta: number): number {
  if (!(rho >= 0)) throw new Fault("bad-input", "rho", { expected: "at least 0", got: `${rho}` });
  if (rho === Infinity) return Infinity;
  return epsilonOf(
    ORDERS.map((order) => order * rho),
    delta,
  ).epsilon;
}

/** Noise beyond it is a mistake in the target, not a mechanism. */
const MAX_NOISE = 1e6;

/**
 * The smallest noise multiplier whose ε is at most `epsilon`, to one part in 10^9, from above.
 * @throws Fault("bad-input") where no noise up to 10^6 reaches it: the orders cannot prove an ε that small.
 */
export function noiseFor(
  target: Omit<Mechanism, "noiseMultiplier"> & { readonly epsilon: number; readonly delta: number },
): number {
  const { epsilon, delta, ...rest } = target;
  checkPositive("epsilon", epsilon);
  const enough = (noiseMultiplier: number) =>
    epsilonOf(rdpOf({ ...rest, noiseMultiplier }), delta).epsilon <= epsilon;
  if (!enough(MAX_NOISE)) {
    const least = epsilonOf(rdpOf({ ...rest, noiseMultiplier: MAX_NOISE }), delta).epsilon;
    throw new Fault("bad-input", "epsilon", {
      expected: `more than ${least.toPrecision(3)}`,
      got: `${epsilon}`,
    });
  }
  let high = 1;
  while (!enough(high)) high *= 2;
  while (high > 2 ** -10 && enough(high / 2)) high /= 2;
  let low = high / 2;
  while (high - low > 1e-9 * high) {
    const middle = (low + high) / 2;
    if (enough(middle)) high = middle;
    else low = middle;
  }
  return high;
}

function rdpAt(order: number, mechanism: Mechanism): number {
  const { noiseMultiplier: sigma, sampling, noise = "gaussian", series = "sizes" } = mechanism;
  const whole = order / (2 * sigma ** 2);
  if (sampling === 1) return whole;
  const at = { order, sigma, q: sampling };
  // Sampling never costs anything, so a bound above the unsampled figure is not needed.
  if (noise === "discrete") return Math.min(whole, logMomentOfAny(at) / (order - 1));
  const moment = Number.isInteger(order) ? logMoment(at) : logMomentBetween(at, series);
  return Math.max(0, moment / (order - 1));
}

function checkPositive(what: string, value: number): void {
  if (value > 0 && Number.isFinite(value)) return;
  throw new Fault("bad-input", what, { expected: "a positive number", got: `${value}` });
}

function checkDelta(delta: number): void {
  if (delta > 0 && delta < 1) return;
  throw new Fault("bad-input", "delta", { expected: "above 0 and below 1", got: `${delta}` });
}
