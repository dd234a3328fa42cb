import {
  createPrivateKey,
  createPublicKey,
  diffieHellman,
  type KeyObject,
  verify as verifyNative,
} from "node:crypto";
import type { Verify } from "@tutti/identity/keys";
import type { Agree } from "../src/agree.ts";

// DER headers of RFC 8410: what node:crypto wants around 32 raw bytes.
const ED25519_PUBLIC = Buffer.from("302a300506032b6570032100", "hex");
const X25519_PUBLIC = Buffer.from("302a300506032b656e032100", "hex");
const X25519_PRIVATE = Buffer.from("302e020100300506032b656e04220420", "hex");

function publicKey(header: Buffer, raw: Uint8Array): KeyObject {
  return createPublicKey({ key: Buffer.concat([header, raw]), format: "der", type: "spki" });
}

/** What a platform may pass for speed. */
export const nativeVerify: Verify = (key, message, signature) => {
  if (key.length !== 32 || signature.length !== 64) return false;
  return verifyNative(null, message, publicKey(ED25519_PUBLIC, key), signature);
};

export const nativeAgree: Agree = (secret, theirs) => {
  const privateKey = remembered(privates, secret, () => {
    return createPrivateKey({ key: Buffer.concat([X25519_PRIVATE, secret]), format: "der", type: "pkcs8" });
  });
  const theirKey = remembered(publics, theirs, () => publicKey(X25519_PUBLIC, theirs));
  return new Uint8Array(diffieHellman({ privateKey, publicKey: theirKey }));
};

/** For tests in which many devices of one process check the same signatures. */
export const rememberingVerify: Verify = (key, message, signature) => {
  const question = Buffer.concat([key, signature, message]);
  return remembered(verdicts, question, () => nativeVerify(key, message, signature));
};

const privates = new Map<string, KeyObject>();
const publics = new Map<string, KeyObject>();
const verdicts = new Map<string, boolean>();

/** Making a key object costs OpenSSL more than using it. */
function remembered<T>(known: Map<string, T>, key: Uint8Array, make: () => T): T {
  const name = Buffer.from(key).toString("latin1");
  const value = known.get(name) ?? make();
  if (known.size > 5000) known.clear();
  known.set(name, value);
  return value;
}
