import type { SecretRandom } from "@tutti/foundation/random";
import { seededRandom } from "@tutti/foundation/random";

/** Bytes that a test can have again, where the code under test takes nothing but secrets. */
export function knownBytes(seed: string): SecretRandom {
  const random = seededRandom(seed);
  const bytes = (length: number) => {
    const words = Uint32Array.from({ length: length / 4 }, () => random.below(2 ** 32));
    return new Uint8Array(words.buffer);
  };
  return { bytes } as SecretRandom;
}

/** These words, then seeded ones. */
export function knownWords(first: readonly number[], seed: string): () => number {
  const [random, queue] = [seededRandom(seed), [...first]];
  return () => queue.shift() ?? random.below(2 ** 32);
}

/** A χ² of k degrees exceeds this once in 10^13 runs (Laurent and Massart 2000, Lemma 1). */
export function chiSquareBound(k: number): number {
  return k + 2 * Math.sqrt(30 * k) + 60;
}
