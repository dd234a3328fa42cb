import { demand } from "@tutti/foundation/check";
import { Fault } from "@tutti/foundation/fault";
import { create, decode, encode } from "@tutti/wire/message";
import type { SignedEnvelope } from "@tutti/wire/release";
import { type TlsCertificates, TlsCertificatesSchema } from "@tutti/wire/standing";
import { openEnvelope, type Signer, signEnvelope, type Trust } from "./dsse.ts";

export const TLS_CERTIFICATES = "application/vnd.tutti.tls+protobuf";
/** The present one, the next, and those of other coordinators of the federation. */
export const MAX_TLS_CERTIFICATES = 32;
/** A certificate of ours has 500 bytes; one by a company with a long chain of names a few thousand. */
const MAX_DER_BYTES = 16 << 10;
const MAX_BYTES = 600 << 10;

/** Which certificates a coordinator shows in TLS: DER, the present one first. */
export function signTlsCertificates(
  { version, certificates, nowS }: { version: number; certificates: readonly Uint8Array[]; nowS: number },
  coordinator: Signer,
): SignedEnvelope {
  const list = create(TlsCertificatesSchema, { version, madeAtS: nowS, certificates: [...certificates] });
  return signEnvelope(TLS_CERTIFICATES, encode(TlsCertificatesSchema, checkShape(list)), coordinator);
}

/**
 * The list in an envelope that a coordinator of this federation signed: the authority vouches for that key,
 * and the key for these certificates. @throws Fault naming what is wrong.
 */
export function openTlsCertificates(envelope: SignedEnvelope, trust: Trust): TlsCertificates {
  const expected = { ...trust, payloadType: TLS_CERTIFICATES, role: "coordinator" } as const;
  const { payload } = openEnvelope(envelope, expected);
  return readTlsCertificates(payload);
}

/** The list in an envelope that was opened before. */
export function readTlsCertificates(payload: Uint8Array): TlsCertificates {
  return checkShape(decode(TlsCertificatesSchema, payload, MAX_BYTES));
}

function checkShape(list: TlsCertificates): TlsCertificates {
  const { version, certificates } = list;
  const wrong = (expected: string, got: string) => () =>
    new Fault("bad-message", "TLS certificates", { expected, got });
  demand(version > 0, wrong("a version above 0", `${version}`));
  const count = certificates.length;
  demand(
    count > 0 && count <= MAX_TLS_CERTIFICATES,
    wrong(`1..${MAX_TLS_CERTIFICATES} certificates`, `${count}`),
  );
  const odd = certificates.find((der) => der.length === 0 || der.length > MAX_DER_BYTES);
  demand(odd === undefined, wrong(`1..${MAX_DER_BYTES} bytes each`, `${odd?.length}`));
  return list;
}
