import {
  createHash,
  createPrivateKey,
  createPublicKey,
  diffieHellman,
  type KeyObject,
  verify as nodeVerify,
} from "node:crypto";
import { fromHex, hex } from "@tutti/foundation/bytes";
import type { Verify } from "@tutti/identity/keys";
import type { Agree } from "@tutti/secagg/agree";

/** SubjectPublicKeyInfo of an Ed25519 key up to the key itself (RFC 8410 section 4). */
const SPKI_PREFIX = Uint8Array.from([0x30, 0x2a, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x03, 0x21, 0x00]);

/**
 * The y coordinates of the points of small order on edwards25519: 0, 1, p − 1 and the two of order 8. Anyone
 * can sign for such a key, and OpenSSL takes it (Chalkias, Garillot, Nikolaenko 2020, section 2).
 */
const SMALL_ORDER_Y = new Set([
  "0000000000000000000000000000000000000000000000000000000000000000",
  "0100000000000000000000000000000000000000000000000000000000000000",
  "ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
  "c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac037a",
  "26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc05",
]);

/**
 * Ed25519 by the platform, far faster than portable code. Keys that the portable check refuses (small order,
 * encodings of y ≥ p) are refused first; S < L and canonical R are OpenSSL's own rules. Never throws.
 */
export const nativeVerify: Verify = (publicKey, message, signature) => {
  if (publicKey.length !== 32 || signature.length !== 64 || isWeak(publicKey)) return false;
  try {
    return nodeVerify(null, message, keyOf(publicKey), signature);
  } catch {
    return false;
  }
};

function keyOf(publicKey: Uint8Array): KeyObject {
  return createPublicKey({ key: Buffer.concat([SPKI_PREFIX, publicKey]), format: "der", type: "spki" });
}

function isWeak(publicKey: Uint8Array): boolean {
  const y = publicKey.slice();
  // The top bit is the sign of x (RFC 8032 section 5.1.2).
  y[31] = y[31]! & 0x7f;
  if (SMALL_ORDER_Y.has(hex(y))) return true;
  // p = 2^255 - 19: little-endian ed ff ... ff 7f.
  return y[31] === 0x7f && y[0]! >= 0xed && y.subarray(1, 31).every((byte) => byte === 0xff);
}

/** PKCS 8 around an X25519 secret, up to its 32 bytes (RFC 8410, section 7). */
const X25519_PKCS8 = fromHex("302e020100300506032b656e04220420");

/**
 * X25519 by OpenSSL: the result of the portable code, faster. Throws for a point of small order, where that
 * one gives zeros; whoever calls takes either for a refusal (libs/secagg/src/agree.ts).
 */
export const nativeAgree: Agree = (secretKey, publicKey) => {
  // A JWK (RFC 8037) is read several times as fast as DER; not for secrets, since a string cannot be wiped.
  const jwk = { kty: "OKP", crv: "X25519", x: Buffer.from(publicKey).toString("base64url") };
  const theirs = createPublicKey({ key: jwk, format: "jwk" });
  const shared = diffieHellman({ privateKey: x25519Of(secretKey), publicKey: theirs });
  return new Uint8Array(shared.buffer, shared.byteOffset, shared.length);
};

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
