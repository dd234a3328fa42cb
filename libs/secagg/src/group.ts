import { compareBytes, equalBytes, hex, utf8 } from "@tutti/foundation/bytes";
import { assert, checkBytes, checkInteger, demand } from "@tutti/foundation/check";
import { Fault } from "@tutti/foundation/fault";
import { verifyCertificate } from "@tutti/identity/certificate";
import { verify as portableVerify, type Verify } from "@tutti/identity/keys";
import type { Advertisement, Terms } from "@tutti/wire/secagg";
import { checkPublicKey } from "./agree.ts";
import { advertiseStatement, rosterRoot, sessionId } from "./statement.ts";
import { thresholdFor } from "./threshold.ts";

/** What certificates are checked against. */
export type Trust = { readonly authority: Uint8Array; readonly nowS: number; readonly verify?: Verify };

/** One member of a session, every link from the authority to its two session keys checked. */
export type Party = {
  readonly name: string;
  /** Ed25519: signs advertisements and attestations. */
  readonly publicKey: Uint8Array;
  readonly advertisement: Advertisement;
};

/** U1 and all that follows from it: the same at every device, and at the coordinator. */
export type Group = {
  readonly terms: Terms;
  readonly sid: Uint8Array;
  readonly root: Uint8Array;
  readonly threshold: number;
  /** By name, ascending. */
  readonly parties: ReadonlyMap<string, Party>;
};

/** Sizes that the arithmetic of this room can hold; a vector has at most 2^28 words, 1 GiB. */
export function checkTerms(terms: Terms): void {
  demand(
    !terms.plain,
    () => new Fault("bad-input", "terms", { expected: "a masked sum", got: "a plain one" }),
  );
  checkInteger("terms: bits", terms.bits, [1, 32]);
  checkInteger("terms: length", terms.length, [1, 2 ** 28]);
  checkBytes("terms: model hash", terms.modelHash, 32);
  checkBytes("terms: task hash", terms.taskHash, 32);
}

/**
 * Stage 0's checks, at both ends: certificate, signature over this attempt's keys, usable keys.
 * @throws Fault("refused" or "bad-message") naming what is wrong.
 */
export function checkAdvertisement(advertisement: Advertisement, terms: Terms, trust: Trust): Party {
  const { certificate, envelopeKey, maskKey, signature } = advertisement;
  const { verify = portableVerify } = trust;
  demand(
    certificate,
    () => new Fault("refused", "advertisement", { expected: "a certificate", got: "none" }),
  );
  const { name, publicKey } = verifyCertificate(certificate, { ...trust, role: "device" });
  checkPublicKey(`envelope key of ${name}`, envelopeKey);
  checkPublicKey(`mask key of ${name}`, maskKey);
  const signed = verify(publicKey, advertiseStatement(terms, advertisement), signature);
  demand(
    signed,
    () =>
      new Fault("refused", `keys of ${name}`, { expected: "its signature for this attempt", got: "another" }),
  );
  return { name, publicKey, advertisement };
}

/** No identity and no session key twice: whoever holds two places would count twice against the threshold. */
export function checkDistinct(parties: Iterable<Party>): void {
  const owners = new Map<string, string>();
  for (const { name, publicKey, advertisement } of parties) {
    for (const key of [publicKey, advertisement.envelopeKey, advertisement.maskKey]) {
      const owner = owners.get(hex(key));
      demand(
        owner === undefined,
        () =>
          new Fault("refused", `keys of ${name}`, { expected: "keys of its own", got: `one of ${owner}` }),
      );
      owners.set(hex(key), name);
    }
  }
}

/** Fixes U1 from checked parties. */
export function formGroup(terms: Terms, parties: Iterable<Party>): Group {
  const sorted = [...parties].sort((a, b) => compareBytes(utf8(a.name), utf8(b.name)));
  const root = rosterRoot(sorted.map(({ advertisement }) => advertisement));
  const n = sorted.length;
  const threshold = thresholdFor(n);
  const group = new Map(sorted.map((party) => [party.name, party]));
  assert(group.size === n, "members have names of their own");
  return { terms, sid: sessionId(terms, { root, n, threshold }), root, threshold, parties: group };
}

/** @throws Fault("conflict") for a message of another session. */
export function checkSession(what: string, session: Uint8Array, sid: Uint8Array): void {
  demand(
    equalBytes(session, sid),
    () =>
      new Fault("conflict", what, {
        expected: "this session",
        got: `session ${hex(session).slice(0, 12) || "none"}`,
      }),
  );
}

/** Names as a set travels: ascending, so no name comes twice. */
export function isAscending(names: readonly string[]): boolean {
  return names.every((name, i) => i === 0 || names[i - 1]! < name);
}
