import { concat, equalBytes, fromHex } from "@tutti/foundation/bytes";
import type { SigningKey } from "./keys.ts";

/**
 * An X.509 v1 certificate around an Ed25519 key, signed by that same key (RFC 5280, RFC 8410): what TLS wants
 * of a client that has no other certificate. It says nothing but the key. So every field is fixed: issuer and
 * subject "CN=tutti", serial 1, valid from 2000 with no end (RFC 5280, section 4.1.2.5). Who the key is, and
 * until when, our own certificates say.
 */
const NAME = "3010310e300c06035504030c057475747469";
const ED25519 = "300506032b6570";
const VALIDITY = "3020170d3030303130313030303030305a180f39393939313233313233353935395a";
const TBS_BEFORE_KEY = fromHex(`307c020101${ED25519}${NAME}${VALIDITY}${NAME}302a${ED25519}032100`);
const BEFORE_TBS = fromHex("3081c8");
const BEFORE_SIGNATURE = fromHex(`${ED25519}034100`);
const BEFORE_KEY = concat(BEFORE_TBS, TBS_BEFORE_KEY);
const KEY_AT = BEFORE_KEY.length;
const BYTES = KEY_AT + 32 + BEFORE_SIGNATURE.length + 64;

/** The certificate's DER. */
export function selfSigned(key: SigningKey): Uint8Array {
  const tbs = concat(TBS_BEFORE_KEY, key.publicKey);
  return concat(BEFORE_TBS, tbs, BEFORE_SIGNATURE, key.sign(tbs));
}

/**
 * The key in a certificate that `selfSigned` made; null for any other. Its signature is not looked at: TLS
 * has the client sign the handshake with the key, which says more.
 */
export function selfSignedKey(der: Uint8Array): Uint8Array | null {
  const fixed =
    der.length === BYTES &&
    equalBytes(der.subarray(0, KEY_AT), BEFORE_KEY) &&
    equalBytes(der.subarray(KEY_AT + 32, -64), BEFORE_SIGNATURE);
  return fixed ? der.slice(KEY_AT, KEY_AT + 32) : null;
}
