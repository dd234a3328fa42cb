import { equalBytes } from "@tutti/foundation/bytes";
import { assert, checkBytes, demand, unreachable } from "@tutti/foundation/check";
import { Fault } from "@tutti/foundation/fault";
import { Memo } from "@tutti/foundation/memo";
import { verify as portableVerify } from "@tutti/identity/keys";
import { encode } from "@tutti/wire/message";
import { MAX_MESSAGE_BYTES } from "@tutti/wire/rpc";
import {
  type Advertisement,
  AdvertisementSchema,
  type AttestRequest,
  AttestRequestSchema,
  type Envelope,
  EnvelopeSchema,
  type PickRequest,
  PickRequestSchema,
  type RevealRequest,
  RevealRequestSchema,
  type ShareRequest,
  ShareRequestSchema,
} from "@tutti/wire/secagg";
import { checkOrder } from "../agree.ts";
import { MAX_SEALED_BYTES } from "../envelope.ts";
import { holdersOf, sharersOf } from "../graph.ts";
import { checkAdvertisement, checkDistinctFrom, checkSession, placesOf } from "../group.ts";
import { SHARE_BYTES } from "../shares.ts";
import { attestStatement, pickStatement } from "../statement.ts";
import { checkSize, FULL_GRAPH, MAX_DEGREE, MAX_MEMBERS } from "../threshold.ts";
import { isEnough } from "./revealed.ts";
import {
  crewOf,
  groupOf,
  isRepeat,
  mustBe,
  mustBeIn,
  type ServerSession,
  type StageMessage,
} from "./state.ts";

/** As encoded, among at most 100: a certificate's body has at most 4 KiB, all else 32 or 64 bytes. */
const MAX_ADVERTISEMENT_BYTES = 8 << 10;
/** In a larger one, whose roster must fit into one message too: certificates without long labels. */
const MAX_SMALL_ADVERTISEMENT_BYTES = 1000;
/** As encoded: two names of 64 characters beside the sealed shares. */
const MAX_ENVELOPE_BYTES = 400;
/** A name as it travels. */
const NAME_BYTES = 66;
// Everybody's roster, picks or delivery, which no member may make too long; 16 KiB are for the terms.
assert(
  FULL_GRAPH * MAX_ADVERTISEMENT_BYTES + (16 << 10) <= MAX_MESSAGE_BYTES &&
    MAX_MEMBERS * (MAX_SMALL_ADVERTISEMENT_BYTES + 4) + (16 << 10) <= MAX_MESSAGE_BYTES &&
    MAX_MEMBERS * (2 * MAX_DEGREE + 64 + 16) + (16 << 10) <= MAX_MESSAGE_BYTES &&
    MAX_MEMBERS * (MAX_ENVELOPE_BYTES + 4 + NAME_BYTES) + (16 << 10) <= MAX_MESSAGE_BYTES &&
    MAX_SEALED_BYTES + 2 * NAME_BYTES + 4 <= MAX_ENVELOPE_BYTES,
  "a full session's words fit into one message",
);

/**
 * The session after a device's message; the same object for a repeat.
 * @throws Fault: "conflict" for a message outside its phase, of another session, or unlike what the device
 * sent before; "refused" for one that its sender may not send; "bad-message" for one that is malformed.
 * Nothing changes then.
 */
export function receive(session: ServerSession, device: string, message: StageMessage): ServerSession {
  switch (message.stage) {
    case "advertise":
      return onAdvertise(session, device, message.advertisement);
    case "pick":
      return onPick(session, device, message.request);
    case "share":
      return onShare(session, device, message.request);
    case "upload":
      return onUpload(session, device);
    case "attest":
      return onAttest(session, device, message.request);
    case "reveal":
      return onReveal(session, device, message.request);
    default:
      return unreachable(message);
  }
}

/**
 * Stage 0. Whatever would make an honest device refuse the roster is kept out of it, so it costs its sender
 * only.
 */
function onAdvertise(session: ServerSession, device: string, advertisement: Advertisement): ServerSession {
  const { terms, trust, advertised } = session;
  const what = `keys of ${device}`;
  const expectedMembers = trust.members?.size ?? FULL_GRAPH;
  const most = expectedMembers > FULL_GRAPH ? MAX_SMALL_ADVERTISEMENT_BYTES : MAX_ADVERTISEMENT_BYTES;
  const bytes = encode(AdvertisementSchema, advertisement).length;
  demand(
    bytes <= most,
    () => new Fault("bad-message", what, { expected: `at most ${most} bytes`, got: `${bytes}` }),
  );
  const known = advertised.get(device)?.advertisement;
  if (isRepeat(AdvertisementSchema, { known, now: advertisement }, what)) return session;
  mustBe(session, ["advertising"], what);
  if (trust.members) mustBeIn(trust.members, device, what);
  checkSize(advertised.size + 1, Math.min(MAX_MEMBERS, Math.max(expectedMembers, FULL_GRAPH)));
  const party = checkAdvertisement(advertisement, terms, trust);
  demand(
    party.name === device,
    () => new Fault("refused", what, { expected: "its own certificate", got: `that of ${party.name}` }),
  );
  checkOrder(`envelope key of ${device}`, advertisement.envelopeKey, trust.agree);
  checkOrder(`mask key of ${device}`, advertisement.maskKey, trust.agree);
  checkDistinctFrom(party, advertised.values());
  return { ...session, advertised: new Map([...advertised, [device, party]]) };
}

/** Between stages 0 and 1: k holders of its own choice from the roster, signed. */
function onPick(session: ServerSession, device: string, request: PickRequest): ServerSession {
  const what = `picks of ${device}`;
  if (isRepeat(PickRequestSchema, { known: session.picked.get(device), now: request }, what)) return session;
  mustBe(session, ["picking"], what);
  const crew = crewOf(session);
  mustBeIn(crew.parties, device, what);
  demand(
    equalBytes(request.roster, crew.root),
    () => new Fault("conflict", what, { expected: "picks from this roster", got: "another" }),
  );
  const { verify = portableVerify } = session.trust;
  placesOf(crew, [...crew.parties.keys()].indexOf(device), request.holders);
  const statement = pickStatement(crew.terms, { root: crew.root, holders: request.holders });
  const good = verify(crew.parties.get(device)!.publicKey, statement, request.signature);
  demand(good, () => new Fault("refused", what, { expected: "its signature", got: "another" }));
  return { ...session, picked: new Map([...session.picked, [device, request]]) };
}

/** Stage 1: one envelope to every holder, in no need of being read, and a commitment. */
function onShare(session: ServerSession, device: string, sent: ShareRequest): ServerSession {
  const what = `shares of ${device}`;
  // An envelope may come without its sender's name: it is the caller (proto/tutti/v1/secagg.proto).
  const envelopes = sent.envelopes.map((one) => (one.from === "" ? { ...one, from: device } : one));
  const request = { ...sent, envelopes };
  if (isRepeat(ShareRequestSchema, { known: session.shared.get(device), now: request }, what)) return session;
  mustBe(session, ["sharing"], what);
  const { parties, sid, graph } = groupOf(session);
  mustBeIn(parties, device, what);
  checkSession(what, request.session, sid);
  checkBytes(`commitment of ${device}`, request.commitment, 32);
  checkEnvelopes(device, request.envelopes, new Set(holdersOf(graph, device)));
  return { ...session, shared: new Map([...session.shared, [device, request]]) };
}

function checkEnvelopes(device: string, envelopes: readonly Envelope[], holders: ReadonlySet<string>): void {
  const bad = (expected: string, got: string) => () =>
    new Fault("bad-message", `shares of ${device}`, { expected, got });
  demand(envelopes.length <= holders.size, bad(`${holders.size} envelopes`, `${envelopes.length}`));
  const to = new Set<string>();
  for (const envelope of envelopes) {
    demand(envelope.from === device, bad("envelopes from itself", "one from another"));
    demand(holders.has(envelope.to) && !to.has(envelope.to), bad("one to each holder", "another address"));
    const bytes = envelope.sealed.length;
    demand(bytes <= MAX_SEALED_BYTES, bad(`at most ${MAX_SEALED_BYTES} bytes each`, `${bytes}`));
    const encoded = encode(EnvelopeSchema, envelope).length;
    demand(
      encoded <= MAX_ENVELOPE_BYTES,
      bad(`envelopes of at most ${MAX_ENVELOPE_BYTES} bytes`, `${encoded}`),
    );
    to.add(envelope.to);
  }
  demand(to.size === holders.size, bad(`${holders.size} envelopes`, `${to.size}`));
}

/**
 * Stage 2: after U3 is sealed a new vector is refused; an old one is a repeat for as long as the session
 * lives.
 */
function onUpload(session: ServerSession, device: string): ServerSession {
  const what = `vector of ${device}`;
  if (session.uploaded.has(device)) return session;
  mustBe(session, ["masking"], what);
  mustBeIn(setOf(session.senders), device, what);
  return { ...session, uploaded: new Set([...session.uploaded, device]) };
}

/** Stage 3: a signature on the sets as this coordinator fixed them. */
function onAttest(session: ServerSession, device: string, request: AttestRequest): ServerSession {
  const what = `attestation of ${device}`;
  if (isRepeat(AttestRequestSchema, { known: session.attested.get(device), now: request }, what))
    return session;
  mustBe(session, ["attesting"], what);
  const { senders, survivors, trust } = session;
  mustBeIn(setOf(survivors), device, what);
  const { sid, root, parties } = groupOf(session);
  checkSession(what, request.session, sid);
  const { verify = portableVerify } = trust;
  const statement = statements.of(survivors, () => attestStatement(sid, { root, senders, survivors }));
  const good = verify(parties.get(device)!.publicKey, statement, request.signature);
  demand(good, () => new Fault("refused", what, { expected: "its signature on the sets", got: "another" }));
  return { ...session, attested: new Map([...session.attested, [device, request]]) };
}

/**
 * Stage 4: one share of each sender at most, of the kind that U3 asks for. Spares are taken after enough are
 * in.
 */
function onReveal(session: ServerSession, device: string, request: RevealRequest): ServerSession {
  const what = `revealed shares of ${device}`;
  if (isRepeat(RevealRequestSchema, { known: session.revealed.get(device), now: request }, what))
    return session;
  mustBe(session, ["revealing", "complete"], what);
  const group = groupOf(session);
  const [senders, alive] = [setOf(session.senders), setOf(session.survivors)];
  const signers = setOf(session.signers);
  mustBeIn(signers, device, what);
  checkSession(what, request.session, group.sid);
  const bad = (expected: string, got: string) => () => new Fault("bad-message", what, { expected, got });
  const held = new Set(sharersOf(group.graph, device));
  const of = new Set<string>();
  for (const share of request.shares) {
    const fits = senders.has(share.of) && held.has(share.of) && !of.has(share.of);
    demand(fits, bad("one share of each sender", "another"));
    const kind = alive.has(share.of) ? "seed" : "maskKey";
    demand(share.share.case === kind, bad(`a ${kind} share of ${share.of}`, share.share.case ?? "none"));
    checkBytes(`${what}: of ${share.of}`, share.share.value, SHARE_BYTES);
    of.add(share.of);
  }
  const counts = new Map(session.counts);
  for (const sender of of) counts.set(sender, (counts.get(sender) ?? 0) + 1);
  const next = { ...session, counts, revealed: new Map([...session.revealed, [device, request]]) };
  return isEnough(next) ? { ...next, phase: "complete" } : next;
}

/** What every attestation signs, by its U3. */
const statements = new Memo<readonly string[], Uint8Array>();

/** A stage's list as a set, for looking one device up. */
const sets = new Memo<readonly string[], ReadonlySet<string>>();

function setOf(names: readonly string[]): ReadonlySet<string> {
  return sets.of(names, () => new Set(names));
}
