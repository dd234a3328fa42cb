import { fromHex } from "@tutti/foundation/bytes";

// What stands before 32 raw bytes of a key where a platform reads no raw keys (RFC 8410).

/** SubjectPublicKeyInfo of an Ed25519 key (section 4). */
export const ED25519_SPKI = fromHex("302a300506032b6570032100");
/** PKCS 8 of an X25519 secret (section 7). */
export const X25519_PKCS8 = fromHex("302e020100300506032b656e04220420");
