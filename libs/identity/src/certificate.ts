import { canonical, equalBytes, hex } from "@tutti/foundation/bytes";
import { checkBytes, demand } from "@tutti/foundation/check";
import { Fault } from "@tutti/foundation/fault";
import {
  type Certificate,
  type CertificateBody,
  CertificateBodySchema,
  CertificateSchema,
} from "@tutti/wire/device";
import { create, decode, encode } from "@tutti/wire/message";
import { verify as portableVerify, type SigningKey, type Verify } from "./keys.ts";
import { NAME } from "./name.ts";

export type Role = "device" | "coordinator" | "owner";

/** Who a certificate speaks of, once every link was checked. */
export type Identity = {
  readonly name: string;
  readonly role: Role;
  readonly labels: Readonly<Record<string, string>>;
  /** The key that signs for this identity: for a device, the one it made itself. */
  readonly publicKey: Uint8Array;
  readonly notAfterS: number;
  readonly serial: Uint8Array;
  /** Of a device: where it is, and how many of there may be in one sum; "" and 0 say nothing. */
  readonly site: string;
  readonly siteLimit: number;
  /** Until when a key may be enrolled with the token; 0: as long as the certificate is valid. */
  readonly enrolBeforeS: number;
};

/** What the authority states; for a device `publicKey` is the one-time token's. */
export type Statement = {
  readonly role: Role;
  readonly name: string;
  readonly publicKey: Uint8Array;
  readonly notBeforeS: number;
  readonly notAfterS: number;
  readonly serial: Uint8Array;
  readonly labels?: Readonly<Record<string, string>>;
  readonly site?: string;
  readonly siteLimit?: number;
  readonly enrolBeforeS?: number;
};

/** A body with every label a site could want is far below this. */
const MAX_BODY_BYTES = 4096;

/** The authority's signed statement about one key. */
export function issue(authority: SigningKey, statement: Statement): Certificate {
  checkName(statement.name, "bad-input");
  if (statement.site) checkName(statement.site, "bad-input");
  checkBytes("public key", statement.publicKey, 32, "bad-input");
  const body = encode(
    CertificateBodySchema,
    create(CertificateBodySchema, {
      ...statement,
      labels: { ...statement.labels },
      authority: authority.publicKey,
    }),
  );
  return create(CertificateSchema, {
    body,
    signature: authority.sign(canonical("tutti/certificate/v1", body)),
  });
}

/** A device's certificate: the token signs the key that the device made (proto/tutti/v1/device.proto). */
export function bind(grant: Certificate, token: SigningKey, subjectKey: Uint8Array): Certificate {
  checkBytes("device key", subjectKey, 32, "bad-input");
  const binding = token.sign(canonical("tutti/binding/v1", grant.body, subjectKey));
  return create(CertificateSchema, { body: grant.body, signature: grant.signature, subjectKey, binding });
}

/**
 * Checks every link from the authority to the key and says whom it names.
 * @throws Fault("refused") naming the link that fails; Fault("bad-message") for bytes that do not decode.
 */
export function verifyCertificate(certificate: Certificate, trust: CertificateTrust): Identity {
  const { body, refuse } = firstLink(certificate, trust);
  const { verify = portableVerify } = trust;
  return { ...identityOf(body, trust.role), publicKey: effectiveKey(certificate, body, { verify, refuse }) };
}

/**
 * The authority's half of a device's certificate alone: its key is the one that may bind, a token's or, for a
 * renewal, the device's own. @throws as `verifyCertificate`.
 */
export function verifyGrant(grant: Certificate, trust: Omit<CertificateTrust, "role">): Identity {
  return identityOf(firstLink(grant, { ...trust, role: "device" }).body, "device");
}

/** What a certificate is checked against. */
export type CertificateTrust = {
  readonly authority: Uint8Array;
  readonly role: Role;
  readonly nowS: number;
  readonly verify?: Verify;
};

type Refuse = (expected: string, got: string) => () => Fault;

function identityOf(body: CertificateBody, role: Role): Identity {
  const { name, labels, publicKey, notAfterS, serial, site, siteLimit, enrolBeforeS } = body;
  return { name, role, labels: { ...labels }, publicKey, notAfterS, serial, site, siteLimit, enrolBeforeS };
}

function firstLink(
  certificate: Certificate,
  { authority, role, nowS, verify = portableVerify }: CertificateTrust,
): { body: CertificateBody; refuse: Refuse } {
  const body = decode(CertificateBodySchema, certificate.body, MAX_BODY_BYTES);
  const refuse: Refuse = (expected, got) => () =>
    new Fault("refused", `certificate of ${NAME.test(body.name) ? body.name : "an unnamed party"}`, {
      expected,
      got,
    });
  demand(
    equalBytes(body.authority, authority),
    refuse(`authority ${short(authority)}`, short(body.authority)),
  );
  const signed = verify(
    authority,
    canonical("tutti/certificate/v1", certificate.body),
    certificate.signature,
  );
  demand(signed, refuse("the authority's signature", "another"));
  demand(body.role === role, refuse(`role ${role}`, body.role));
  checkName(body.name, "refused");
  if (body.site) checkName(body.site, "refused");
  demand(nowS >= body.notBeforeS, refuse("one that is already valid", `valid from ${date(body.notBeforeS)}`));
  demand(nowS <= body.notAfterS, refuse("one that is still valid", `expired ${date(body.notAfterS)}`));
  return { body, refuse };
}

/** @throws Fault("refused") for a token that nobody enrolled with in time. */
export function checkToken({ name, enrolBeforeS }: Identity, nowS: number): void {
  demand(
    enrolBeforeS === 0 || nowS <= enrolBeforeS,
    () =>
      new Fault("refused", `token of ${name}`, {
        expected: "one that may still be used",
        got: `one that expired on ${date(enrolBeforeS).slice(0, 10)}`,
        todo: "Ask the federation's operator for a new join file",
      }),
  );
}

/** What a certificate says of its own times; nothing about it is checked. */
export function validityOf(certificate: Certificate): { notBeforeS: number; notAfterS: number } {
  const { notBeforeS, notAfterS } = decode(CertificateBodySchema, certificate.body, MAX_BODY_BYTES);
  return { notBeforeS, notAfterS };
}

/** The key at the end of the chain: one link for a coordinator or owner, two for a device. */
function effectiveKey(
  certificate: Certificate,
  body: CertificateBody,
  { verify, refuse }: { verify: Verify; refuse: Refuse },
): Uint8Array {
  if (body.role !== "device") {
    demand(certificate.subjectKey.length === 0, refuse("no second link", "one"));
    return checkBytes("public key", body.publicKey, 32);
  }
  const { subjectKey, binding } = certificate;
  demand(subjectKey.length === 32, refuse("a device key of 32 bytes", `${subjectKey.length}`));
  const bound = verify(body.publicKey, canonical("tutti/binding/v1", certificate.body, subjectKey), binding);
  demand(bound, refuse("the token's binding of the device key", "another"));
  return subjectKey;
}

function checkName(name: string, code: "bad-input" | "refused"): void {
  if (!NAME.test(name))
    throw new Fault(code, "name", {
      expected: "1..64 of A-Z a-z 0-9 . _ -",
      got: JSON.stringify(name).slice(0, 80),
    });
}

function short(key: Uint8Array): string {
  return hex(key).slice(0, 12) || "none";
}

function date(seconds: number): string {
  return new Date(seconds * 1000).toISOString();
}
