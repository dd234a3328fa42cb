import { createHash, createPrivateKey, createPublicKey, diffieHellman, type KeyObject } from "node:crypto";
import type { Agree } from "@tutti/secagg/agree";
import { X25519_PKCS8 } from "../der.ts";

/**
 * X25519 by OpenSSL: the result of the portable code, faster. Throws for a point of small order, where that
 * one gives zeros; whoever calls takes either for a refusal (libs/secagg/src/agree.ts).
 */
export const nativeAgree: Agree = (secretKey, publicKey) => {
  // A JWK (RFC 8037) is read several times as fast as DER; not for secrets, since a string cannot be wiped.
  const jwk = { kty: "OKP", crv: "X25519", x: Buffer.from(publicKey).toString("base64url") };
  const theirs = createPublicKey({ key: jwk, format: "jwk" });
  const shared = diffieHellman({ privateKey: privateKeyOf(secretKey), publicKey: theirs });
  return new Uint8Array(shared.buffer, shared.byteOffset, shared.length);
};

/** Making a private key costs ten times what using it does: kept as long as the caller keeps its bytes. */
const made = new WeakMap<Uint8Array, { readonly key: KeyObject; readonly digest: string }>();

function privateKeyOf(secretKey: Uint8Array): KeyObject {
  // Bytes that were wiped or written to since are another key.
  const digest = createHash("sha256").update(secretKey).digest("base64");
  const held = made.get(secretKey);
  if (held?.digest === digest) return held.key;
  const der = Buffer.concat([X25519_PKCS8, secretKey]);
  try {
    const key = createPrivateKey({ key: der, format: "der", type: "pkcs8" });
    made.set(secretKey, { key, digest });
    return key;
  } finally {
    // A small Buffer is a piece of a pool that the whole process shares.
    der.fill(0);
  }
}
