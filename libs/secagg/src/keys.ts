import { canonical } from "@tutti/foundation/bytes";
import { hkdf } from "@tutti/foundation/hash";
import type { SecretRandom } from "@tutti/foundation/random";
import { type Agree, publicKeyOf } from "./agree.ts";

/** An X25519 pair of one device, for one session. */
export type KeyPair = { readonly publicKey: Uint8Array; readonly secretKey: Uint8Array };

export function newKeyPair(random: SecretRandom, agree?: Agree): KeyPair {
  const secretKey = random.bytes(32);
  return { publicKey: publicKeyOf(secretKey, agree), secretKey };
}

/**
 * Key of the mask that two devices share, the same at both: HKDF(X25519(s_i, s_j), sid, "pair" | min | max).
 */
export function pairKey(secret: Uint8Array, sid: Uint8Array, [a, b]: readonly [string, string]): Uint8Array {
  const [low, high] = a < b ? [a, b] : [b, a];
  return hkdf(secret, sid, canonical("pair", low, high));
}

/** Key of a device's own mask, which protects it while pair masks come off: HKDF(b_i, sid, "self" | i). */
export function selfKey(seed: Uint8Array, sid: Uint8Array, name: string): Uint8Array {
  return hkdf(seed, sid, canonical("self", name));
}

/** Key of the one envelope from u to v: HKDF(X25519(c_u, c_v), sid, "env" | u | v). */
export function envelopeKey(
  secret: Uint8Array,
  sid: Uint8Array,
  { from, to }: { from: string; to: string },
): Uint8Array {
  return hkdf(secret, sid, canonical("env", from, to));
}

/**
 * Overwrites secrets. Best effort: an engine may have copied them before (docs/attacks.md, attack 16).
 */
export function wipe(...secrets: readonly Uint8Array[]): void {
  for (const secret of secrets) secret.fill(0);
}
