import { hkdf as nobleHkdf } from "@noble/hashes/hkdf.js";
import { sha256 as nobleSha256 } from "@noble/hashes/sha2.js";
import { hex } from "./bytes.ts";

/** SHA-256 (FIPS 180-4): 32 bytes. */
export function sha256(bytes: Uint8Array): Uint8Array {
  return nobleSha256(bytes);
}

/** SHA-256 as 64 lower-case hex digits: how models, plans and releases are named. */
export function sha256Hex(bytes: Uint8Array): string {
  return hex(sha256(bytes));
}

/** A hash fed in pieces, for files larger than one buffer. */
export function sha256Stream(): { update(bytes: Uint8Array): void; digest(): Uint8Array } {
  const state = nobleSha256.create();
  return { update: (bytes) => void state.update(bytes), digest: () => state.digest() };
}

/** HKDF-SHA-256 (RFC 5869): `length` bytes from secret, salt and info. */
export function hkdf(secret: Uint8Array, salt: Uint8Array, info: Uint8Array, length = 32): Uint8Array {
  return nobleHkdf(nobleSha256, secret, salt, info, length);
}
