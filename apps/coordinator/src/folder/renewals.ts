import { hex } from "@tutti/foundation/bytes";
import { demand } from "@tutti/foundation/check";
import { asFault, Fault } from "@tutti/foundation/fault";
import type { SecretRandom } from "@tutti/foundation/random";
import type { Identity } from "@tutti/identity/certificate";
import type { SigningKey } from "@tutti/identity/keys";
import { NAME } from "@tutti/identity/name";
import { checkRenewal, grantRenewal } from "@tutti/identity/renewal";
import { revokedAmong } from "@tutti/release/revocations";
import { type Certificate, CertificateBodySchema } from "@tutti/wire/device";
import { decode } from "@tutti/wire/message";
import type { RenewalRequest, RevocationList } from "@tutti/wire/standing";

const DAY_S = 86_400;

/** What whoever holds the authority's key goes by; a coordinator brings requests, and is believed nothing. */
export type SigningRules = {
  readonly authority: SigningKey;
  /** No certificate is made for longer. */
  readonly maxDays: number;
  /** For how long after its end a certificate may still ask. */
  readonly graceDays: number;
  /** Who was revoked, by the newest list at hand. */
  readonly revocations: RevocationList;
  /** What was renewed here before; kept on the authority's machine. */
  readonly known: readonly Known[];
  readonly random: SecretRandom;
  readonly nowMs: number;
};

/** A device that was renewed here: its key, hex, and until when it is good. */
export type Known = {
  readonly name: string;
  readonly key: string;
  readonly site: string;
  readonly notAfterS: number;
};

export type Answers = {
  readonly granted: readonly {
    readonly device: string;
    readonly days: number;
    readonly grant: Certificate;
  }[];
  readonly refused: readonly { readonly device: string; readonly because: Fault }[];
  /** `known`, with what was granted. */
  readonly known: readonly Known[];
};

/**
 * Signs what may be signed. A device is refused that was revoked, that has another key than when it was
 * renewed before (somebody bound the site's token twice), or whose site has as many devices as it may.
 */
export function answerRenewals(requests: readonly RenewalRequest[], rules: SigningRules): Answers {
  const known = new Map(rules.known.map((one) => [one.name, one]));
  const granted: { device: string; days: number; grant: Certificate }[] = [];
  const refused: { device: string; because: Fault }[] = [];
  for (const request of requests) {
    try {
      const { identity, grant, days } = answer(request, { ...rules, known: [...known.values()] });
      granted.push({ device: identity.name, days, grant });
      const { notAfterS } = decode(CertificateBodySchema, grant.body, 4096);
      const { name, site } = identity;
      known.set(name, { name, site, key: hex(identity.publicKey), notAfterS });
    } catch (error) {
      refused.push({ device: nameIn(request), because: asFault(error) });
    }
  }
  return { granted, refused, known: [...known.values()] };
}

function answer(
  request: RenewalRequest,
  { authority, maxDays, graceDays, revocations, known, random, nowMs }: SigningRules,
): { identity: Identity; grant: Certificate; days: number } {
  const nowS = Math.floor(nowMs / 1000);
  const trust = { authority: authority.publicKey, nowS, graceS: graceDays * DAY_S };
  const identity = checkRenewal(request, trust);
  const { name, site, siteLimit } = identity;
  const refuse = (expected: string, got: string) => () =>
    new Fault("refused", `renewal for ${name}`, { expected, got });
  demand(!revokedAmong([identity], revocations), refuse("a device of the federation", "a revoked one"));
  demand(request.days > 0, refuse("a number of days", "0"));
  const before = known.find((one) => one.name === name);
  const sameKey = before === undefined || before.key === hex(identity.publicKey);
  demand(sameKey, refuse(`key ${before?.key.slice(0, 12)}, as before`, "another"));
  const beside = known.filter((one) => one.site === site && one.name !== name && one.notAfterS > nowS);
  const isFull = site !== "" && siteLimit > 0 && beside.length >= siteLimit;
  demand(!isFull, refuse(`at most ${siteLimit} devices of site ${site}`, `${beside.length} renewed`));
  const days = Math.min(request.days, maxDays);
  const gains = nowS + days * DAY_S > identity.notAfterS;
  demand(gains, refuse("a certificate that ends sooner than its renewal", "one that lasts longer"));
  return {
    identity,
    days,
    grant: grantRenewal(authority, { identity, days, nowS, serial: random.bytes(16) }),
  };
}

function nameIn({ certificate }: RenewalRequest): string {
  try {
    const { name } = decode(CertificateBodySchema, certificate?.body ?? new Uint8Array(), 4096);
    return NAME.test(name) ? name : "unnamed";
  } catch {
    return "unnamed";
  }
}
