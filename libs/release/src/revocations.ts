import { hex } from "@tutti/foundation/bytes";
import { demand } from "@tutti/foundation/check";
import { Fault } from "@tutti/foundation/fault";
import type { Identity } from "@tutti/identity/certificate";
import { NAME } from "@tutti/identity/name";
import { create, decode, encode } from "@tutti/wire/message";
import type { SignedEnvelope } from "@tutti/wire/release";
import { type Revocation, type RevocationList, RevocationListSchema } from "@tutti/wire/standing";
import { openEnvelope, type Signer, signEnvelope, type Trust } from "./dsse.ts";

export const REVOCATIONS = "application/vnd.tutti.revocations+protobuf";
/** A list travels in one message; each of its entries takes about 50 bytes, a long name 100. */
export const MAX_REVOCATIONS = 8_000;
const MAX_LIST_BYTES = 960 << 10;

export type OpenedList = { readonly list: RevocationList; readonly signer: Identity };

/** Nobody is revoked. */
export const NO_REVOCATIONS = create(RevocationListSchema);

/** The list after `before` with one more device on it. Whoever is on it already stays as he is. */
export function withRevoked(
  before: RevocationList,
  { name, serial, nowS }: { name: string; serial: Uint8Array; nowS: number },
): RevocationList {
  const others = before.revocations.filter((one) => one.name !== name);
  const own = before.revocations.find((one) => one.name === name) ?? { name, serial, atS: nowS };
  const revocations = [...others, own].sort((a, b) => (a.name < b.name ? -1 : 1));
  return create(RevocationListSchema, { version: before.version + 1, madeAtS: nowS, revocations });
}

export function signRevocations(list: RevocationList, owner: Signer): SignedEnvelope {
  checkShape(list);
  return signEnvelope(REVOCATIONS, encode(RevocationListSchema, list), owner);
}

/** The list in an envelope that an owner of this federation signed. @throws Fault naming what is wrong. */
export function openRevocations(envelope: SignedEnvelope, trust: Trust): OpenedList {
  const { payload, signer } = openEnvelope(envelope, { ...trust, payloadType: REVOCATIONS, role: "owner" });
  return { list: readRevocations(payload), signer };
}

/** The list in an envelope that was opened before. */
export function readRevocations(payload: Uint8Array): RevocationList {
  return checkShape(decode(RevocationListSchema, payload, MAX_LIST_BYTES));
}

/**
 * That a list goes on where another ends: nobody is taken off, so what was revoked once stays so.
 * @throws Fault("refused") for a version that goes back, or a list that lacks somebody.
 */
export function checkGrown(before: RevocationList, after: RevocationList): void {
  const refuse = (expected: string, got: string) => () =>
    new Fault("refused", "revocations", {
      expected,
      got,
      todo: "Sign a list that holds all of the last one",
    });
  demand(after.version > before.version, refuse(`a version after ${before.version}`, `${after.version}`));
  const there = new Set(after.revocations.map(({ name }) => name));
  const gone = before.revocations.find(({ name }) => !there.has(name));
  demand(gone === undefined, refuse("everybody who was revoked before", `a list without ${gone?.name}`));
}

/** Whether two lists say the same of the same version, whenever each was made. */
export function isSameList(one: RevocationList, other: RevocationList): boolean {
  const [of, than] = [one, other].map(({ version, revocations }) =>
    JSON.stringify([version, revocations.map(({ name, serial }) => [name, hex(serial)])]),
  );
  return of === than;
}

/** Who of these the list revokes, by name or by certificate; undefined for nobody. */
export function revokedAmong<Party extends { readonly name: string; readonly serial: Uint8Array }>(
  parties: Iterable<Party>,
  { revocations }: RevocationList,
): Party | undefined {
  if (revocations.length === 0) return undefined;
  const names = new Set(revocations.map(({ name }) => name));
  const serials = new Set(revocations.map(({ serial }) => hex(serial)));
  for (const party of parties)
    if (names.has(party.name) || (party.serial.length > 0 && serials.has(hex(party.serial)))) return party;
  return undefined;
}

function checkShape(list: RevocationList): RevocationList {
  const { revocations, version } = list;
  const wrong = (expected: string, got: string) => () =>
    new Fault("bad-message", "revocations", { expected, got });
  demand(version > 0, wrong("a version above 0", `${version}`));
  demand(
    revocations.length <= MAX_REVOCATIONS,
    wrong(`at most ${MAX_REVOCATIONS} devices`, `${revocations.length}`),
  );
  const fits = ({ name, serial }: Revocation) => NAME.test(name) && serial.length <= 64;
  const [names, odd] = [revocations.map(({ name }) => name), revocations.find((one) => !fits(one))];
  demand(odd === undefined, wrong("names and serials", JSON.stringify(odd?.name ?? "").slice(0, 80)));
  const ascending = names.every((name, at) => at === 0 || names[at - 1]! < name);
  demand(ascending, wrong("each name once, ascending", "another order"));
  return list;
}
