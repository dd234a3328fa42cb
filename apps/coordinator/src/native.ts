import {
  createHash,
  createPrivateKey,
  createPublicKey,
  diffieHellman,
  type KeyObject,
  verify as nodeVerify,
} from "node:crypto";
import { fromHex, hex } from "@tutti/foundation/bytes";
import { isSoundKey, type Verify } from "@tutti/identity/keys";
import type { Agree } from "@tutti/secagg/agree";

/** SubjectPublicKeyInfo of an Ed25519 key up to the key itself (RFC 8410 section 4). */
const SPKI_PREFIX = Uint8Array.from([0x30, 0x2a, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x03, 0x21, 0x00]);

/** Keys found sound: looking costs more than verifying, and the same few hundred come again and again. */
const sound = new Map<string, KeyObject>();
const MAX_KEYS = 4096;

/**
 * Ed25519 by the platform, far faster than portable code, and with the same answers. OpenSSL takes keys of
 * small and of mixed order; the portable check lets a key in first. S < L and canonical R are OpenSSL's own
 * rules, and its equation, not times 8, admits no R of mixed order under a sound key. Never throws.
 */
export const nativeVerify: Verify = (publicKey, message, signature) => {
  if (publicKey.length !== 32 || signature.length !== 64) return false;
  try {
    const key = keyOf(publicKey);
    return key !== undefined && nodeVerify(null, message, key, signature);
  } catch {
    return false;
  }
};

/** Good signatures remembered; as many again are checked anew. */
const MAX_REMEMBERED = 1 << 14;

/**
 * `verify` that remembers what was good: the two signatures of a certificate come with every request of its
 * device, and again in every round. Nothing else is remembered than the SHA-256 of all three.
 */
export function rememberingVerify(verify: Verify): Verify {
  const good = new Set<string>();
  return (publicKey, message, signature) => {
    // Of fixed lengths but for the last, so no two questions are hashed alike.
    if (publicKey.length !== 32 || signature.length !== 64) return false;
    const hash = createHash("sha256").update(publicKey).update(signature).update(message);
    const question = hash.digest("base64");
    if (good.has(question)) return true;
    if (!verify(publicKey, message, signature)) return false;
    if (good.size >= MAX_REMEMBERED) good.clear();
    good.add(question);
    return true;
  };
}

function keyOf(publicKey: Uint8Array): KeyObject | undefined {
  const name = hex(publicKey);
  const known = sound.get(name);
  if (known || !isSoundKey(publicKey)) return known;
  const key = createPublicKey({ key: Buffer.concat([SPKI_PREFIX, publicKey]), format: "der", type: "spki" });
  if (sound.size >= MAX_KEYS) sound.clear();
  sound.set(name, key);
  return key;
}

/** PKCS 8 around an X25519 secret, up to its 32 bytes (RFC 8410, section 7). */
const X25519_PKCS8 = fromHex("302e020100300506032b656e04220420");

/**
 * X25519 by OpenSSL: the result of the portable code, faster. Throws for a point of small order, where that
 * one gives zeros; whoever calls takes either for a refusal (libs/secagg/src/agree.ts).
 */
export const nativeAgree: Agree = (secretKey, publicKey) => {
  const keys = { privateKey: x25519Of(secretKey), publicKey: theirX25519(publicKey) };
  const shared = diffieHellman(keys);
  return new Uint8Array(shared.buffer, shared.byteOffset, shared.length);
};

/** Public keys of one session come again with every secret that an unmasking opens. */
const publicKeys = new Map<string, KeyObject>();

function theirX25519(publicKey: Uint8Array): KeyObject {
  const x = Buffer.from(publicKey).toString("base64url");
  const known = publicKeys.get(x);
  if (known) return known;
  // A JWK (RFC 8037) is read several times as fast as DER; not for secrets, since a string cannot be wiped.
  const key = createPublicKey({ key: { kty: "OKP", crv: "X25519", x }, format: "jwk" });
  if (publicKeys.size >= MAX_KEYS) publicKeys.clear();
  publicKeys.set(x, key);
  return key;
}

/** Making a private key costs ten times what using it does: kept as long as the caller keeps its bytes. */
const privateKeys = new WeakMap<Uint8Array, { readonly key: KeyObject; readonly digest: string }>();

function x25519Of(secretKey: Uint8Array): KeyObject {
  // Bytes that were wiped or written to since are another key.
  const digest = createHash("sha256").update(secretKey).digest("base64");
  const held = privateKeys.get(secretKey);
  if (held?.digest === digest) return held.key;
  const der = Buffer.concat([X25519_PKCS8, secretKey]);
  try {
    const key = createPrivateKey({ key: der, format: "der", type: "pkcs8" });
    privateKeys.set(secretKey, { key, digest });
    return key;
  } finally {
    // A small Buffer is a piece of a pool that the whole process shares.
    der.fill(0);
  }
}
