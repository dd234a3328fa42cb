import { concat, hex, utf8 } from "@tutti/foundation/bytes";
import { demand } from "@tutti/foundation/check";
import { Fault } from "@tutti/foundation/fault";
import { sha256Hex } from "@tutti/foundation/hash";
import { type Identity, verifyCertificate } from "@tutti/identity/certificate";
import { verify as portableVerify, type SigningKey, type Verify } from "@tutti/identity/keys";
import type { Certificate } from "@tutti/wire/device";
import { create } from "@tutti/wire/message";
import { type SignedEnvelope, SignedEnvelopeSchema } from "@tutti/wire/release";

export { envelopeFromJson, envelopeJson } from "./envelope-json.ts";

/** Who signs: a key, and the authority's certificate for it, which travels with every signature. */
export type Signer = { readonly key: SigningKey; readonly certificate: Certificate };

/**
 * What a verifier goes by: the pinned authority, the wall clock in seconds, a faster Verify if there is one.
 */
export type Trust = { readonly authority: Uint8Array; readonly nowS: number; readonly verify?: Verify };

export type Expected = Trust & { readonly payloadType: string; readonly role: "owner" | "coordinator" };

export type Opened = { readonly payload: Uint8Array; readonly signer: Identity };

/**
 * The pre-authentication encoding of DSSE v1 (protocol.md, "Signature Definition"): what is really signed.
 * `DSSEv1 LEN(type) type LEN(body) body`, lengths in bytes, in decimal.
 */
export function pae(payloadType: string, payload: Uint8Array): Uint8Array {
  const type = utf8(payloadType);
  return concat(utf8(`DSSEv1 ${type.length} ${payloadType} ${payload.length} `), payload);
}

/** A payload signed once, with the signer's certificate inside the signature entry. */
export function signEnvelope(payloadType: string, payload: Uint8Array, signer: Signer): SignedEnvelope {
  const signature = {
    keyid: keyId(signer.key.publicKey),
    sig: signer.key.sign(pae(payloadType, payload)),
    certificate: signer.certificate,
  };
  return create(SignedEnvelopeSchema, { payloadType, payload, signatures: [signature] });
}

/**
 * The payload, once everything about it holds: its type, exactly one signature, a certificate by the
 * authority for `role` valid at `nowS`, a keyid that is the certified key's, and the signature itself.
 * Otherwise a Fault("refused") naming which of these failed; nothing of the payload is read before.
 */
export function openEnvelope(envelope: SignedEnvelope, expected: Expected): Opened {
  const { payloadType, payload, signatures } = envelope;
  const { authority, role, nowS, verify = portableVerify } = expected;
  demand(payloadType === expected.payloadType, () => {
    return refused("envelope type", { expected: expected.payloadType, got: payloadType });
  });
  // One signer is our rule; DSSE allows more. With one, no question arises of whose word counts.
  const [signature] = signatures;
  demand(signature && signatures.length === 1, () => {
    return refused("envelope", { expected: "one signature", got: `${signatures.length}` });
  });
  const { certificate, keyid, sig } = signature;
  demand(certificate, () => refused("envelope", { expected: "the signer's certificate", got: "none" }));
  const signer = verifyCertificate(certificate, { authority, role, nowS, verify });
  // DSSE forbids deciding by keyid: the certificate decides, the keyid may only not contradict it.
  demand(keyid === keyId(signer.publicKey), () => {
    return refused("envelope keyid", { expected: keyId(signer.publicKey), got: keyid });
  });
  demand(verify(signer.publicKey, pae(payloadType, payload), sig), () => {
    return refused("envelope signature", { expected: `one by ${role} ${signer.name}`, got: hex(sig) });
  });
  return { payload, signer };
}

function keyId(publicKey: Uint8Array): string {
  return sha256Hex(publicKey);
}

function refused(what: string, detail: { expected: string; got: string }): Fault {
  return new Fault("refused", what, detail);
}
