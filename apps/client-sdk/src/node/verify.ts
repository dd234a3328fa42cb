import { createPublicKey, type KeyObject, verify as nodeVerify } from "node:crypto";
import { isSoundKey, type Verify } from "@tutti/identity/keys";
import { Recent } from "../recent.ts";
import { latin1, Verdicts } from "../verdicts.ts";

/**
 * Ed25519 by OpenSSL, which is faster than the portable code (docs/protocol.md, Who is who). A key is let in
 * by the portable code, which refuses those of small or mixed order; under a sound key a good R is S·B − h·A,
 * sound as well, and OpenSSL compares its one encoding and refuses S ≥ L: the verdict is the portable one.
 */
export function nativeVerify(): Verify {
  const keys = new Recent<KeyObject>();
  const verdicts = new Verdicts();
  const keyOf = (publicKey: Uint8Array): KeyObject | null => {
    const id = latin1(publicKey);
    const known = keys.get(id);
    if (known) return known;
    if (!isSoundKey(publicKey)) return null;
    // A JWK (RFC 8037) is read several times as fast as DER.
    const jwk = { kty: "OKP", crv: "Ed25519", x: Buffer.from(publicKey).toString("base64url") };
    const key = createPublicKey({ key: jwk, format: "jwk" });
    keys.set(id, key);
    return key;
  };
  return (publicKey, message, signature) => {
    if (publicKey.length !== 32 || signature.length !== 64) return false;
    const check = verdicts.keyOf({ publicKey, message, signature });
    if (verdicts.isGood(check)) return true;
    const key = keyOf(publicKey);
    const good = key !== null && nodeVerify(null, message, key, signature);
    if (good) verdicts.remember(check);
    return good;
  };
}
