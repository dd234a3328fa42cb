import { createPrivateKey, sign as nodeSign, X509Certificate } from "node:crypto";
import { fromHex } from "@tutti/foundation/bytes";
import { type SigningKey, signingKey } from "@tutti/identity/keys";
import { selfSigned } from "@tutti/identity/x509";

/** PKCS 8 around an Ed25519 seed, up to its 32 bytes (RFC 8410, section 7). */
const PKCS8 = fromHex("302e020100300506032b657004220420");

/** The key of a 32-byte seed, its signatures made by OpenSSL: the same bytes (RFC 8032), sooner. */
export function nativeSigningKey(seed: Uint8Array): SigningKey {
  const { publicKey } = signingKey(seed);
  const der = Buffer.concat([PKCS8, seed]);
  try {
    const key = createPrivateKey({ key: der, format: "der", type: "pkcs8" });
    return { publicKey, sign: (message) => new Uint8Array(nodeSign(null, message, key)) };
  } finally {
    der.fill(0);
  }
}

/** A private key and a certificate of it, PEM both, for TLS. */
export type TlsIdentity = { readonly key: Buffer; readonly certificate: Buffer };

/** What a device or an owner shows where TLS asks for a certificate: its own key, and nothing else of it. */
export function tlsIdentity(seed: Uint8Array): TlsIdentity {
  const der = Buffer.concat([PKCS8, seed]);
  try {
    const key = createPrivateKey({ key: der, format: "der", type: "pkcs8" });
    const certificate = new X509Certificate(selfSigned(nativeSigningKey(seed)));
    return {
      key: Buffer.from(key.export({ format: "pem", type: "pkcs8" })),
      certificate: Buffer.from(certificate.toString()),
    };
  } finally {
    der.fill(0);
  }
}
