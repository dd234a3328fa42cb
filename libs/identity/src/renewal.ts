import { canonical, equalBytes } from "@tutti/foundation/bytes";
import { checkInteger, demand } from "@tutti/foundation/check";
import { Fault } from "@tutti/foundation/fault";
import type { Certificate } from "@tutti/wire/device";
import { create } from "@tutti/wire/message";
import { type RenewalRequest, RenewalRequestSchema } from "@tutti/wire/standing";
import { bind, type Identity, issue, validityOf, verifyCertificate } from "./certificate.ts";
import { verify as portableVerify, type SigningKey, type Verify } from "./keys.ts";

/*
 * A certificate goes on: the device asks, the authority signs a grant on the device's own key, the device
 * binds that very key with it. So a renewed certificate has two links like the first, the device's key in the
 * token's place, and whoever verifies certificates sees no difference. The key stays: peers pinned it.
 */

const DAY_S = 86_400;
export const MAX_DAYS = 3650;
/** Of its validity; a device then has the other third to find the authority's holder at work. */
const RENEW_AFTER = 2 / 3;
/** A device's clock may run behind or ahead of ours. */
const SKEW_S = 3_600;

/** Whether a device should ask for a new certificate. */
export function isDue(certificate: Certificate, nowS: number): boolean {
  const { notBeforeS, notAfterS } = validityOf(certificate);
  return nowS >= notBeforeS + (notAfterS - notBeforeS) * RENEW_AFTER;
}

/** As many days as the present certificate was made for. */
export function daysOf(certificate: Certificate): number {
  const { notBeforeS, notAfterS } = validityOf(certificate);
  return Math.min(MAX_DAYS, Math.max(1, Math.floor((notAfterS - notBeforeS) / DAY_S)));
}

/** 0 days: nothing is asked for, `certificate` is the renewed one. */
export function requestRenewal(
  key: SigningKey,
  { certificate, days, nowS }: { certificate: Certificate; days: number; nowS: number },
): RenewalRequest {
  const request = create(RenewalRequestSchema, { certificate, days, askedAtS: nowS });
  request.signature = key.sign(statement(request));
  return request;
}

/** What a request is checked against; `graceS` is for how long after its end a certificate may still ask. */
export type RenewalRules = {
  readonly authority: Uint8Array;
  readonly nowS: number;
  readonly graceS: number;
  readonly verify?: Verify;
};

/**
 * Whose request it is, every link and the signature checked; the certificate may have expired within the
 * grace period. @throws Fault naming what fails.
 */
export function checkRenewal(request: RenewalRequest, rules: RenewalRules): Identity {
  const { authority, nowS, graceS, verify = portableVerify } = rules;
  const { certificate, days, askedAtS, signature } = request;
  demand(certificate, () => new Fault("bad-message", "renewal", { expected: "a certificate", got: "none" }));
  checkInteger("renewal: days", days, [0, MAX_DAYS]);
  const { notAfterS } = validityOf(certificate);
  // Within the grace period it counts as on its last day: every other check is as ever.
  const asOfS = nowS > notAfterS && nowS <= notAfterS + graceS ? notAfterS : nowS;
  const identity = verifyCertificate(certificate, { authority, role: "device", nowS: asOfS, verify });
  const refuse = (expected: string, got: string) => () =>
    new Fault("refused", `renewal for ${identity.name}`, { expected, got });
  demand(askedAtS <= nowS + SKEW_S, refuse("one that was asked for before now", "a later one"));
  demand(verify(identity.publicKey, statement(request), signature), refuse("its own signature", "another"));
  return identity;
}

/** The authority's answer: the first link of a certificate for the key that `identity` has. */
export function grantRenewal(
  authority: SigningKey,
  { identity, days, nowS, serial }: { identity: Identity; days: number; nowS: number; serial: Uint8Array },
): Certificate {
  checkInteger("days", days, [1, MAX_DAYS]);
  const { name, publicKey, labels, site, siteLimit } = identity;
  return issue(authority, {
    role: "device",
    name,
    publicKey,
    labels,
    site,
    siteLimit,
    notBeforeS: nowS - SKEW_S,
    // A renewal never shortens what there is.
    notAfterS: Math.max(nowS + days * DAY_S, identity.notAfterS),
    serial,
  });
}

/**
 * The device's half: binds a grant to its own key, and checks that the certificate is the one it has, for
 * longer. @throws Fault("refused") for another name, key, site or label, or an earlier end.
 */
export function completeRenewal(
  key: SigningKey,
  {
    grant,
    present,
    authority,
    nowS,
    verify,
  }: {
    grant: Certificate;
    present: Certificate;
    authority: Uint8Array;
    nowS: number;
    verify?: Verify;
  },
): Certificate {
  const renewed = bind(grant, key, key.publicKey);
  const trust = { authority, role: "device", ...(verify && { verify }) } as const;
  checkSuccessor(
    verifyCertificate(present, { ...trust, nowS: Math.min(nowS, validityOf(present).notAfterS) }),
    verifyCertificate(renewed, { ...trust, nowS }),
  );
  return renewed;
}

/** That one certificate goes on where another ends. @throws Fault("refused") naming what is another. */
export function checkSuccessor(before: Identity, after: Identity): void {
  const refuse = (expected: string, got: string) => () =>
    new Fault("refused", `renewed certificate of ${before.name}`, { expected, got });
  demand(after.name === before.name, refuse("the same name", after.name));
  demand(equalBytes(after.publicKey, before.publicKey), refuse("the same key", "another"));
  demand(after.site === before.site, refuse(`site ${before.site || "none"}`, after.site || "none"));
  const [had, has] = [labelsText(before), labelsText(after)];
  demand(has === had, refuse(`labels ${had}`, has));
  const [earlier, later] = [before.notAfterS, after.notAfterS];
  demand(later >= earlier, refuse(`an end not before ${earlier}`, `${later}`));
}

/** The same for the same labels, in whatever order they were said. */
function labelsText({ labels }: Identity): string {
  return JSON.stringify(Object.entries(labels).sort(([a], [b]) => (a < b ? -1 : 1)));
}

function statement({ certificate, days, askedAtS }: RenewalRequest): Uint8Array {
  const { body = new Uint8Array(), subjectKey = new Uint8Array() } = certificate ?? {};
  return canonical("tutti/renewal/v1", body, subjectKey, days, askedAtS);
}
