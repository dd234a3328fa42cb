import { createPublicKey, type KeyObject, verify as nodeVerify } from "node:crypto";
import { fromHex } from "@tutti/foundation/bytes";
import { verify as portable, type Verify } from "@tutti/identity/keys";

/** SubjectPublicKeyInfo of an Ed25519 key up to its 32 bytes (RFC 8410, section 4). */
const SPKI = fromHex("302a300506032b6570032100");
const MAX_KEYS = 1024;

/**
 * Ed25519 by OpenSSL, which is faster than the portable code (docs/protocol.md, Who is who). A key is let
 * in by the portable check of its first signature, which refuses keys of small order; OpenSSL itself
 * refuses S ≥ L.
 */
export function nativeVerify(): Verify {
  const keys = new Map<string, KeyObject>();
  return (publicKey, message, signature) => {
    if (publicKey.length !== 32 || signature.length !== 64) return false;
    const id = Buffer.from(publicKey).toString("latin1");
    const known = keys.get(id);
    if (known) return nodeVerify(null, message, known, signature);
    if (!portable(publicKey, message, signature)) return false;
    if (keys.size >= MAX_KEYS) keys.clear();
    keys.set(id, createPublicKey({ key: Buffer.concat([SPKI, publicKey]), format: "der", type: "spki" }));
    return true;
  };
}
