import { assert } from "@tutti/foundation/check";
import { Fault } from "@tutti/foundation/fault";
import type { SecretRandom } from "@tutti/foundation/random";
import {
  bernoulliExp,
  compare,
  compareExactly,
  type Ratio,
  uniformBelow,
  type Words,
  wordsOf,
} from "./bernoulli.ts";

/** Largest σ. A value beyond int32 would lie 64 σ out: its chance is below e^−2000. */
export const MAX_SIGMA = 2 ** 25;

assert((2 ** 31 / MAX_SIGMA) ** 2 / 2 > 2000, "values fit int32 but for a chance that is none");

/**
 * `count` independent draws of the discrete Gaussian N_Z(0, `variance`): x with probability proportional to
 * exp(−x²/2σ²), exactly (Canonne, Kamath and Steinke 2020, Algorithms 1 to 3). The variance is the very
 * rational number that the float64 is, at most MAX_SIGMA². Not in constant time: who can time a single draw
 * learns of it.
 */
export function discreteGaussian(count: number, variance: number, random: SecretRandom): Int32Array {
  if (!(variance > 0 && variance <= MAX_SIGMA ** 2)) {
    const expected = `above 0 and at most ${MAX_SIGMA ** 2}`;
    throw new Fault("bad-input", "variance of the noise", { expected, got: `${variance}` });
  }
  const words = wordsOf(random);
  // Any t is exact; this one makes the fewest rejections.
  const t = Math.floor(Math.sqrt(variance)) + 1;
  const uniform = uniformBelow(words, t);
  const accept = acceptance(words, variance, t);
  const out = new Int32Array(count);
  for (let at = 0; at < count; at++) {
    let draw = laplace(words, t, uniform);
    while (!accept(Math.abs(draw))) draw = laplace(words, t, uniform);
    out[at] = draw;
  }
  return out;
}

/** The discrete Laplace distribution of scale t (Algorithm 2 with s = 1); `uniform` draws below t. */
function laplace(words: Words, t: number, uniform: () => number): number {
  for (;;) {
    const low = uniform();
    if (!bernoulliExp(words, low, t)) continue;
    let high = 0;
    while (bernoulliExp(words, 1, 1)) high++;
    const size = low + t * high;
    const negative = words() % 2 === 1;
    // Zero would otherwise count twice.
    if (size > 0 || !negative) return negative ? -size : size;
  }
}

/** γ up to which float64 decides: then it is off by less than 2^−44 (see `acceptance`). */
const MAX_FAST = 64;
/** So near a whole number, the float64 γ does not tell which one is below it. */
const EDGE = 2 ** -40;

/**
 * A coin with probability exp(−γ), γ = (|y| − σ²/t)²/(2σ²) (Algorithm 3).
 *
 * In float64 the difference e is off by 2^−52·σ or less, so e² by (e/σ)·2^−51·σ², and γ by (e/σ)·2^−52 from
 * that, and by γ·2^−51 from its own three roundings: with γ ≤ 64 and e/σ ≤ 12 less than 2^−44, and MARGIN
 * allows 2^−42.
 */
function acceptance(words: Words, variance: number, t: number): (size: number) => boolean {
  const centre = variance / t;
  return (size) => {
    const away = size - centre;
    const gamma = (away * away) / (2 * variance);
    const whole = Math.floor(gamma);
    const part = gamma - whole;
    const clear = part < 1 - EDGE && (part > EDGE || whole === 0);
    if (gamma > MAX_FAST || !clear) return acceptExactly(words, gammaOf(size, variance, t));
    for (let i = 0; i < whole; i++) if (!bernoulliExp(words, 1, 1)) return false;
    for (let count = 1; ; count++) {
      const word = words();
      const verdict = compare(word, part / count);
      // No closure here: making one per coin took as long as all the rest.
      const hit =
        verdict < 0
          ? compareExactly(words, word, partOver(gammaOf(size, variance, t), BigInt(count)))
          : verdict === 1;
      if (!hit) return count % 2 === 1;
    }
  };
}

/** The same coin in integers without bound. */
function acceptExactly(words: Words, gamma: Ratio): boolean {
  const whole = gamma[0] / gamma[1];
  for (let i = 0n; i < whole; i++) if (!bernoulliExp(words, 1, 1)) return false;
  for (let count = 1n; ; count++) {
    if (!compareExactly(words, words(), partOver(gamma, count))) return count % 2n === 1n;
  }
}

/** What γ is above its whole part, divided by a count. */
function partOver([numerator, denominator]: Ratio, count: bigint): Ratio {
  return [numerator % denominator, denominator * count];
}

/** γ as a ratio. With σ² = p/q it is (|y|·q·t − p)² / (2·p·q·t²). */
function gammaOf(size: number, variance: number, t: number): Ratio {
  let [p, q] = [variance, 1n];
  // A float64 is a whole number of some power of 1/2; doubling is exact.
  for (; !Number.isInteger(p); p *= 2) q *= 2n;
  const over = BigInt(size) * q * BigInt(t) - BigInt(p);
  return [over * over, 2n * BigInt(p) * q * BigInt(t) ** 2n];
}
