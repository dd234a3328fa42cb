import { base64, fromBase64, utf8 } from "@tutti/foundation/bytes";
import { Fault } from "@tutti/foundation/fault";
import { CertificateSchema } from "@tutti/wire/device";
import { create, decode, encode } from "@tutti/wire/message";
import { EnvelopeSignatureSchema, type SignedEnvelope, SignedEnvelopeSchema } from "@tutti/wire/release";
import { type Field, items, jsonField, member, text } from "./fields.ts";

/** A certificate is a few hundred bytes; its labels may add some. */
const MAX_CERTIFICATE_BYTES = 64 * 1024;
const MAX_SIGNATURES = 16;

/**
 * The standard DSSE file (envelope.md): payload and signatures in base64. Each signature carries one member
 * more, `certificate`, the signer's Certificate as base64 protobuf; other verifiers ignore it.
 */
export function envelopeJson({ payload, payloadType, signatures }: SignedEnvelope): string {
  const listed = signatures.map(({ keyid, sig, certificate }) => ({
    keyid,
    sig: base64(sig),
    ...(certificate && { certificate: base64(encode(CertificateSchema, certificate)) }),
  }));
  return `${JSON.stringify({ payload: base64(payload), payloadType, signatures: listed }, null, 2)}\n`;
}

/**
 * The envelope in a DSSE file; a Fault names the field that is not as it must be. Nothing is verified here.
 */
export function envelopeFromJson(file: string): SignedEnvelope {
  const envelope = jsonField("envelope", utf8(file));
  const signatures = items(member(envelope, "signatures"), MAX_SIGNATURES).map((entry) => {
    const certificate = member(entry, "certificate");
    const keyid = member(entry, "keyid");
    return create(EnvelopeSignatureSchema, {
      keyid: keyid.value === undefined ? "" : text(keyid, /^/, "text"),
      sig: bytes(member(entry, "sig")),
      ...(certificate.value !== undefined && {
        certificate: decode(CertificateSchema, bytes(certificate), MAX_CERTIFICATE_BYTES),
      }),
    });
  });
  return create(SignedEnvelopeSchema, {
    payloadType: text(member(envelope, "payloadType"), /^/, "text"),
    payload: bytes(member(envelope, "payload")),
    signatures,
  });
}

/** Standard or URL-safe base64 (protocol.md: verifiers must accept either), with or without padding. */
function bytes(field: Field): Uint8Array {
  const encoded = text(field, /^[A-Za-z0-9+/_-]*={0,2}$/, "base64");
  const standard = encoded.replaceAll("-", "+").replaceAll("_", "/");
  const decoded = fromBase64(standard, field.path);
  // RFC 4648, section 3.5: pad bits must be zero, so that one value has one text.
  if (base64(decoded).replaceAll("=", "") === standard.replaceAll("=", "")) return decoded;
  throw new Fault("bad-message", field.path, { expected: "base64 with zero pad bits" });
}
