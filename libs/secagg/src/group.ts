import { equalBytes, hex } from "@tutti/foundation/bytes";
import { assert, checkBytes, checkInteger, demand } from "@tutti/foundation/check";
import { Fault } from "@tutti/foundation/fault";
import { Memo } from "@tutti/foundation/memo";
import { verifyCertificate } from "@tutti/identity/certificate";
import { verify as portableVerify, type Verify } from "@tutti/identity/keys";
import type { Advertisement, Pick as Picked, Terms } from "@tutti/wire/secagg";
import { checkPublicKey } from "./agree.ts";
import { findGraph, type GraphSize } from "./finder.ts";
import { completeGraph, type Graph, pickedGraph } from "./graph.ts";
import { decodePlaces } from "./picks.ts";
import { advertiseStatement, graphRoot, rosterRoot, sessionId } from "./statement.ts";
import { FULL_GRAPH, leastFor, MAX_DEGREE, thresholdFor } from "./threshold.ts";

/** What certificates are checked against. */
export type Trust = { readonly authority: Uint8Array; readonly nowS: number; readonly verify?: Verify };

/** One member of a session, every link from the authority to its two session keys checked. */
export type Party = {
  readonly name: string;
  /** Ed25519: signs advertisements and attestations. */
  readonly publicKey: Uint8Array;
  readonly advertisement: Advertisement;
};

/** Who advertised: U1 up to 100 members; beyond, those of them who then pick their holders are U1. */
export type Crew = {
  readonly terms: Terms;
  readonly root: Uint8Array;
  /** By name, ascending: a member's place is its place in this order. */
  readonly parties: ReadonlyMap<string, Party>;
  readonly size: GraphSize;
};

/** U1 and all that follows from it: the same at every device, and at the coordinator. */
export type Group = {
  readonly terms: Terms;
  readonly sid: Uint8Array;
  readonly root: Uint8Array;
  /** By name, ascending. */
  readonly parties: ReadonlyMap<string, Party>;
  readonly graph: Graph;
  /** Attestations without which nobody reveals: more than (n + n_C)/2. */
  readonly quorum: number;
  /** Fewest senders and survivors: the quorum, and on a sparse graph as many as its sizes were found for. */
  readonly least: number;
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
  checkInteger("terms: corrupt", terms.corrupt, [0, 500]);
  checkInteger("terms: lost", terms.lost, [0, 500]);
}

/**
 * Stage 0's checks, at both ends: certificate, usable keys, signature over this attempt's keys.
 * @throws Fault("refused" or "bad-message") naming what is wrong.
 */
export function checkAdvertisement(advertisement: Advertisement, terms: Terms, trust: Trust): Party {
  const { verify = portableVerify } = trust;
  const party = checkCertified(advertisement, trust);
  const { signature } = advertisement;
  const signed = verify(party.publicKey, advertiseStatement(terms, advertisement), signature);
  demand(
    signed,
    () =>
      new Fault("refused", `keys of ${party.name}`, {
        expected: "its signature for this attempt",
        got: "another",
      }),
  );
  return party;
}

/**
 * The same without the signature: for a device on a sparse graph, where whoever concerns it signs the whole
 * roster (docs/protocol.md, More than 100).
 */
export function checkCertified(advertisement: Advertisement, trust: Trust): Party {
  const { certificate, envelopeKey, maskKey } = advertisement;
  demand(
    certificate,
    () => new Fault("refused", "advertisement", { expected: "a certificate", got: "none" }),
  );
  const { name, publicKey } = verifyCertificate(certificate, { ...trust, role: "device" });
  checkPublicKey(`envelope key of ${name}`, envelopeKey);
  checkPublicKey(`mask key of ${name}`, maskKey);
  return { name, publicKey, advertisement };
}

/** No identity and no session key twice: whoever holds two places would count twice against the threshold. */
export function checkDistinct(parties: Iterable<Party>): void {
  const owners = new Map<string, string>();
  for (const party of parties) {
    for (const key of keysOf(party)) {
      const owner = owners.get(key);
      demand(owner === undefined, shared(party.name, owner));
      owners.set(key, party.name);
    }
  }
}

/** No key of this party is another's; the others were checked before. */
export function checkDistinctFrom(party: Party, others: Iterable<Party>): void {
  checkDistinct([party]);
  const keys = new Set(keysOf(party));
  for (const other of others) {
    const twice = keysOf(other).some((key) => keys.has(key));
    demand(!twice, shared(party.name, other.name));
  }
}

function shared(name: string, owner: string | undefined): () => Fault {
  return () =>
    new Fault("refused", `keys of ${name}`, { expected: "keys of its own", got: `one of ${owner}` });
}

const keysInHex = new Memo<Party, string[]>();

/** A party's three public keys, as they are compared. */
function keysOf(party: Party): string[] {
  const { publicKey, advertisement } = party;
  return keysInHex.of(party, () => [publicKey, advertisement.envelopeKey, advertisement.maskKey].map(hex));
}

/** Who advertised, from checked parties; sizes of the graph follow from how many they are. */
export function formCrew(terms: Terms, parties: Iterable<Party>): Crew {
  // Names are ASCII, so the order of code units is that of bytes.
  const sorted = [...parties].sort((a, b) => (a.name < b.name ? -1 : 1));
  const root = rosterRoot(sorted.map(({ advertisement }) => advertisement));
  const named = new Map(sorted.map((party) => [party.name, party]));
  assert(named.size === sorted.length, "members have names of their own");
  return { terms, root, parties: named, size: sizeFor(terms, sorted.length) };
}

/**
 * Up to 100 members all hold shares of all; beyond, k and t withstand `corrupt` and `lost` thousandths of
 * them against a malicious coordinator (docs/protocol.md, More than 100).
 */
function sizeFor({ corrupt, lost }: Terms, n: number): GraphSize {
  if (n <= FULL_GRAPH) return { degree: n, threshold: thresholdFor(n) };
  const found = findGraph({ n, corrupt: corrupt / 1000, lost: lost / 1000, malicious: true });
  demand(
    found.degree <= MAX_DEGREE,
    () =>
      new Fault("bad-input", "share-holders", {
        expected: `at most ${MAX_DEGREE} for each device`,
        got: `${found.degree} for ${n} devices`,
        todo: "Ask for fewer corrupt or fewer lost devices, or use smaller cohorts",
      }),
  );
  return found;
}

/** U1 of a full graph. */
export function fullGroup({ terms, root, parties, size }: Crew): Group {
  const { threshold, degree } = size;
  const n = parties.size;
  const sid = sessionId(terms, { root, n, threshold, degree });
  const graph = completeGraph([...parties.keys()], threshold);
  return { terms, sid, root, parties, graph, quorum: threshold, least: threshold };
}

/** U1 of a sparse graph: the members whose picks are there, in the order of their places. */
export function sparseGroup(crew: Crew, picks: readonly Picked[]): Group {
  const { terms, size } = crew;
  const names = [...crew.parties.keys()];
  const parties = new Map(picks.map(({ member }) => [names[member]!, crew.parties.get(names[member]!)!]));
  const n = parties.size;
  const root = graphRoot(crew.root, picks);
  const holders = new Map(
    picks.map(({ member, holders }) => [
      names[member]!,
      placesOf(crew, member, holders).map((at) => names[at]!),
    ]),
  );
  const graph = pickedGraph(holders, { ...size, root });
  const quorum = thresholdFor(n);
  const sid = sessionId(terms, { root, n, ...size });
  // Beyond the losses that its sizes were found for the graph of honest survivors may fall apart.
  const least = leastFor(n, { lost: terms.lost, picked: crew.parties.size });
  return { terms, sid, root, parties, graph, quorum, least };
}

/** Fewest of a crew on a sparse graph that its sizes were found for. */
export function leastOf({ parties, terms }: Crew): number {
  return parties.size - Math.floor((parties.size * terms.lost) / 1000);
}

/** @throws Fault("bad-message") for a list that is not one of this member's holders. */
export function placesOf({ parties, size }: Crew, member: number, holders: Uint8Array): number[] {
  const at = { k: size.degree, n: parties.size, own: member };
  return decodePlaces(`holders picked by member ${member}`, holders, at);
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
