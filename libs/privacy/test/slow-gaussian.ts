/** The sampler once more, in integers without bound and without shortcuts, fed by the same words. */
export type Words = () => number;

/** Algorithm 1's coin: U < numerator/denominator, U drawn word by word until it is on one side. */
export function slowBernoulli(words: Words, numerator: bigint, denominator: bigint): boolean {
  let [lower, width] = [0n, 1n];
  for (;;) {
    lower = lower * 2n ** 32n + BigInt(words());
    width *= 2n ** 32n;
    if (lower * denominator >= numerator * width) return false;
    if ((lower + 1n) * denominator <= numerator * width) return true;
  }
}

/** True with probability exp(−numerator/denominator), for a ratio of at most 1. */
export function slowBernoulliExp(words: Words, numerator: bigint, denominator: bigint): boolean {
  let count = 1n;
  while (slowBernoulli(words, numerator, denominator * count)) count++;
  return count % 2n === 1n;
}

function slowLaplace(words: Words, t: bigint): bigint {
  for (;;) {
    const low = slowUniform(words, t);
    if (!slowBernoulliExp(words, low, t)) continue;
    let high = 0n;
    while (slowBernoulliExp(words, 1n, 1n)) high++;
    const size = low + t * high;
    const negative = words() % 2 === 1;
    if (!(negative && size === 0n)) return negative ? -size : size;
  }
}

function slowUniform(words: Words, bound: bigint): bigint {
  for (;;) {
    const word = BigInt(words());
    if (word < 2n ** 32n - (2n ** 32n % bound)) return word % bound;
  }
}

/** One draw with σ² = p/q, by Algorithm 3. */
export function slowGaussian(words: Words, p: bigint, q: bigint): bigint {
  let t = 1n;
  while (t * t * q <= p) t++;
  for (;;) {
    const y = slowLaplace(words, t);
    const size = y < 0n ? -y : y;
    const [over, under] = [(size * q * t - p) ** 2n, 2n * p * q * t * t];
    if (slowAccept(words, over, under)) return y;
  }
}

/** exp(−γ) for any γ: as many coins of exp(−1) as γ has ones, and one for the rest. */
function slowAccept(words: Words, over: bigint, under: bigint): boolean {
  for (let ones = over / under; ones > 0n; ones--) if (!slowBernoulliExp(words, 1n, 1n)) return false;
  return slowBernoulliExp(words, over % under, under);
}
