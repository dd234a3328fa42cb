import { createPrivateKey, createPublicKey, diffieHellman, verify as verifyNative } from "node:crypto";
import type { Verify } from "@tutti/identity/keys";
import type { Agree } from "../src/agree.ts";

// DER headers of RFC 8410: what node:crypto wants around 32 raw bytes.
const ED25519_PUBLIC = Buffer.from("302a300506032b6570032100", "hex");
const X25519_PUBLIC = Buffer.from("302a300506032b656e032100", "hex");
const X25519_PRIVATE = Buffer.from("302e020100300506032b656e04220420", "hex");

function publicKey(header: Buffer, raw: Uint8Array) {
  return createPublicKey({ key: Buffer.concat([header, raw]), format: "der", type: "spki" });
}

/** What a platform may pass for speed. */
export const nativeVerify: Verify = (key, message, signature) => {
  if (key.length !== 32 || signature.length !== 64) return false;
  return verifyNative(null, message, publicKey(ED25519_PUBLIC, key), signature);
};

export const nativeAgree: Agree = (secret, theirs) => {
  const der = Buffer.concat([X25519_PRIVATE, secret]);
  const privateKey = createPrivateKey({ key: der, format: "der", type: "pkcs8" });
  return new Uint8Array(diffieHellman({ privateKey, publicKey: publicKey(X25519_PUBLIC, theirs) }));
};
