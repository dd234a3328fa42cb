import { fromHex } from "@tutti/foundation/bytes";

/** PKCS 8 of an X25519 secret, up to its 32 bytes: no platform reads it raw (RFC 8410, section 7). */
export const X25519_PKCS8 = fromHex("302e020100300506032b656e04220420");
