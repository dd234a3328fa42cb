import type { SecretRandom } from "@tutti/foundation/random";

/*
 * Coins whose probability is a ratio of integers, tossed exactly (Canonne, Kamath and Steinke 2020, Algorithm
 * 1).
 *
 * A uniform U in [0, 1) is drawn 32 bits at a time, and only as far as it takes to see on which side of p it
 * lies. Nearly always one word and a float64 decide: the word says U·2^32 lies in [u, u+1), p·2^32 is known
 * to MARGIN, and only IEEE 754's correctly rounded operations are used. In the other cases, about one in
 * 2^32, integers without bound decide. Either way the answer is the one that infinitely many bits and exact
 * arithmetic would give.
 */

/** Uniform 32-bit words. */
export type Words = () => number;

/** Words drawn in blocks: a call to the CSPRNG for each would cost more than the rest. */
const BLOCK_WORDS = 1 << 12;

export function wordsOf(random: SecretRandom): Words {
  let block: Uint32Array = new Uint32Array(0);
  let at = 0;
  return () => {
    if (at === block.length) {
      const bytes = random.bytes(4 * BLOCK_WORDS);
      block = new Uint32Array(bytes.buffer, bytes.byteOffset, BLOCK_WORDS);
      at = 0;
    }
    const word = block[at]!;
    // Noise that is known is no noise: what was used does not stay in memory.
    block[at++] = 0;
    return word;
  };
}

/**
 * Whole numbers below `bound` ≤ 2^32, each as likely: words beyond the last whole multiple are drawn again.
 * The quotient of two such numbers is at least 2^−32 from the next whole one, so float64 rounds none across.
 */
export function uniformBelow(words: Words, bound: number): () => number {
  const end = 2 ** 32 - (2 ** 32 % bound);
  return () => {
    for (;;) {
      const word = words();
      // The same as `%`, which is many times slower beyond int32.
      if (word < end) return word - Math.floor(word / bound) * bound;
    }
  };
}

/** p·2^32 in float64 may be off by so much; callers say why it is not off by more. */
export const MARGIN = 2 ** -10;

/** Whether U < p, if its first word `u` and a p within MARGIN/2^32 tell: 1 yes, 0 no, −1 not so. */
export function compare(u: number, p: number): 1 | 0 | -1 {
  const scaled = p * 2 ** 32;
  if (u >= scaled + MARGIN) return 0;
  return u + 1 <= scaled - MARGIN ? 1 : -1;
}

/** Numerator and denominator, above zero. */
export type Ratio = readonly [bigint, bigint];

/**
 * Whether U < numerator/denominator, for the U that begins with the word `first`. Draws more words if it
 * must.
 */
export function compareExactly(words: Words, first: number, ratio: Ratio): boolean {
  const [numerator, denominator] = ratio;
  let lower = BigInt(first);
  for (let bits = 32n; ; bits += 32n) {
    const scaled = numerator << bits;
    if (lower * denominator >= scaled) return false;
    if ((lower + 1n) * denominator <= scaled) return true;
    lower = (lower << 32n) | BigInt(words());
  }
}

/**
 * True with probability numerator/denominator, whole numbers below 2^53: their float64 ratio is off by at
 * most 2^−53 of it, far below MARGIN/2^32.
 */
export function bernoulli(words: Words, numerator: number, denominator: number): boolean {
  const word = words();
  const verdict = compare(word, numerator / denominator);
  if (verdict >= 0) return verdict === 1;
  return compareExactly(words, word, [BigInt(numerator), BigInt(denominator)]);
}

/**
 * True with probability exp(−numerator/denominator), for a ratio of at most 1 (Algorithm 1). `denominator` is
 * below 2^32: the count that multiplies it stays below 2^21 but for a chance of 1 in (2^21)!.
 */
export function bernoulliExp(words: Words, numerator: number, denominator: number): boolean {
  let count = 1;
  while (bernoulli(words, numerator, denominator * count)) count++;
  return count % 2 === 1;
}
