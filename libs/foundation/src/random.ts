import { uniformFloat64 } from "pure-rand/distribution/uniformFloat64";
import { uniformInt } from "pure-rand/distribution/uniformInt";
import { xoroshiro128plus } from "pure-rand/generator/xoroshiro128plus";
import { canonical, utf8 } from "./bytes.ts";
import { sha256 } from "./hash.ts";

declare const secret: unique symbol;

/**
 * The platform's CSPRNG, for keys, masks and privacy noise. A type of its own, so that a key cannot come
 * from the dice by accident. Only `platformRandom` makes one, or `seededSecret` of its bytes.
 */
export type SecretRandom = { readonly [secret]: true; bytes(length: number): Uint8Array };

/** Secrets from `crypto.getRandomValues`, present in Node ≥ 20 and every browser. */
export function platformRandom(): SecretRandom {
  const bytes = (length: number) => {
    const out = new Uint8Array(length);
    // One call gives at most 65,536 bytes (Web Cryptography API, section 10.1.1).
    for (let at = 0; at < length; at += 65_536) crypto.getRandomValues(out.subarray(at, at + 65_536));
    return out;
  };
  return { bytes } as SecretRandom;
}

/**
 * Secrets that follow from a secret seed of 32 bytes, itself from `platformRandom`, for one `purpose`: the
 * same again where something must be done twice alike. SHA-256 of seed, purpose and a counter; who has the
 * seed has all of it.
 */
export function seededSecret(seed: Uint8Array, purpose: Uint8Array): SecretRandom {
  let counter = 0;
  const bytes = (length: number) => {
    const out = new Uint8Array(length);
    for (let at = 0; at < length; at += 32) {
      const block = sha256(canonical("tutti/secret/v1", seed, purpose, counter++));
      out.set(block.subarray(0, Math.min(32, length - at)), at);
    }
    return out;
  };
  return { bytes } as SecretRandom;
}

/** Reproducible chance for cohorts, batches, initial weights and simulation; never for a secret. */
export type SeededRandom = {
  /** A float in [0, 1). */
  uniform(): number;
  /** An integer in [0, bound). */
  below(bound: number): number;
  /** A standard normal draw (Box–Muller). */
  normal(): number;
  /** A new array with the items in random order (Fisher–Yates). */
  shuffle<T>(items: readonly T[]): T[];
  /** An independent stream for a named purpose, whatever was drawn from this one. */
  fork(label: string): SeededRandom;
};

export function seededRandom(seed: number | string): SeededRandom {
  const digest = sha256(utf8(`tutti/seed/v1|${seed}`));
  const generator = xoroshiro128plus(new DataView(digest.buffer, digest.byteOffset).getInt32(0, true));
  const uniform = () => uniformFloat64(generator);
  const below = (bound: number) => uniformInt(generator, 0, bound - 1);
  return {
    uniform,
    below,
    normal: () => Math.sqrt(-2 * Math.log(1 - uniform())) * Math.cos(2 * Math.PI * uniform()),
    shuffle: (items) => {
      const out = [...items];
      for (let last = out.length - 1; last > 0; last--) {
        const pick = below(last + 1);
        [out[last], out[pick]] = [out[pick]!, out[last]!];
      }
      return out;
    },
    fork: (label) => seededRandom(`${seed}/${label}`),
  };
}
