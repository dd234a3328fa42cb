import { ed25519 } from "@noble/curves/ed25519.js";
import { checkBytes } from "@tutti/foundation/check";
import type { SecretRandom } from "@tutti/foundation/random";

/** An Ed25519 key that can sign (RFC 8032). The seed stays inside; only the public half shows. */
export type SigningKey = {
  /** 32 bytes. */
  readonly publicKey: Uint8Array;
  /** A 64-byte signature over any message. */
  sign(message: Uint8Array): Uint8Array;
};

/** Whether a signature is good; never throws: wrong lengths and malformed points are simply not good. */
export type Verify = (publicKey: Uint8Array, message: Uint8Array, signature: Uint8Array) => boolean;

/** A fresh 32-byte secret to make a key from. */
export function newSeed(random: SecretRandom): Uint8Array {
  return random.bytes(32);
}

export function signingKey(seed: Uint8Array): SigningKey {
  const secret = checkBytes("Ed25519 seed", seed, 32, "bad-input").slice();
  return {
    publicKey: ed25519.getPublicKey(secret),
    sign: (message) => ed25519.sign(message, secret),
  };
}

/**
 * Whether anyone should be believed under this key: a canonical encoding, and a point of the prime-order
 * subgroup other than zero. Under a key of small order anyone can sign; one with a part of small order
 * (mixed) makes verifiers differ (Chalkias, Garillot, Nikolaenko 2020, section 2). Never throws.
 */
export function isSoundKey(publicKey: Uint8Array): boolean {
  if (publicKey.length !== 32) return false;
  try {
    const point = ed25519.Point.fromBytes(publicKey);
    return !point.isSmallOrder() && point.isTorsionFree();
  } catch {
    return false;
  }
}

/**
 * Portable verification, RFC 8032 section 5.1.7 with the stricter choices: S < L, so that a signature cannot
 * be altered into a second good one; canonical encodings; a sound key. The equation checked is the one times
 * 8, OpenSSL's the one without; with R, too, in the prime-order subgroup the two say the same.
 */
export const verify: Verify = (publicKey, message, signature) => {
  if (signature.length !== 64 || !isSoundKey(publicKey)) return false;
  try {
    if (!ed25519.Point.fromBytes(signature.subarray(0, 32)).isTorsionFree()) return false;
    return ed25519.verify(signature, message, publicKey, { zip215: false });
  } catch {
    return false;
  }
};
