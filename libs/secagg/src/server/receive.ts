import { assert, checkBytes, demand, unreachable } from "@tutti/foundation/check";
import { Fault } from "@tutti/foundation/fault";
import { verify as portableVerify } from "@tutti/identity/keys";
import { encode } from "@tutti/wire/message";
import { MAX_MESSAGE_BYTES } from "@tutti/wire/rpc";
import {
  type Advertisement,
  AdvertisementSchema,
  type AttestRequest,
  AttestRequestSchema,
  EnvelopeSchema,
  type RevealRequest,
  RevealRequestSchema,
  type ShareRequest,
  ShareRequestSchema,
} from "@tutti/wire/secagg";
import { checkOrder } from "../agree.ts";
import { MAX_SEALED_BYTES } from "../envelope.ts";
import { checkAdvertisement, checkDistinct, checkSession } from "../group.ts";
import { SHARE_BYTES } from "../shares.ts";
import { attestStatement } from "../statement.ts";
import { checkSize, MAX_MEMBERS } from "../threshold.ts";
import { isEnough } from "./revealed.ts";
import { groupOf, isRepeat, mustBe, mustBeIn, type ServerSession, type StageMessage } from "./state.ts";

/** As encoded: a certificate's body has at most 4 KiB, and all else in an advertisement 32 or 64 bytes. */
const MAX_ADVERTISEMENT_BYTES = 8 << 10;
/** As encoded: two names of 64 characters beside the sealed shares. */
const MAX_ENVELOPE_BYTES = 1 << 10;
// Everybody's roster or delivery, which no member may make too long to travel; 16 KiB are for the terms.
assert(
  MAX_MEMBERS * MAX_ADVERTISEMENT_BYTES + (16 << 10) <= MAX_MESSAGE_BYTES &&
    MAX_ENVELOPE_BYTES <= MAX_ADVERTISEMENT_BYTES &&
    MAX_SEALED_BYTES < MAX_ENVELOPE_BYTES,
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
  const bytes = encode(AdvertisementSchema, advertisement).length;
  demand(
    bytes <= MAX_ADVERTISEMENT_BYTES,
    () =>
      new Fault("bad-message", what, {
        expected: `at most ${MAX_ADVERTISEMENT_BYTES} bytes`,
        got: `${bytes}`,
      }),
  );
  const known = advertised.get(device)?.advertisement;
  if (isRepeat(AdvertisementSchema, { known, now: advertisement }, what)) return session;
  mustBe(session, ["advertising"], what);
  if (trust.members) mustBeIn(trust.members, device, what);
  checkSize(advertised.size + 1);
  const party = checkAdvertisement(advertisement, terms, trust);
  demand(
    party.name === device,
    () => new Fault("refused", what, { expected: "its own certificate", got: `that of ${party.name}` }),
  );
  checkOrder(`envelope key of ${device}`, advertisement.envelopeKey, trust.agree);
  checkOrder(`mask key of ${device}`, advertisement.maskKey, trust.agree);
  checkDistinct([...advertised.values(), party]);
  return { ...session, advertised: new Map([...advertised, [device, party]]) };
}

/** Stage 1: one envelope to every member, in no need of being read, and a commitment. */
function onShare(session: ServerSession, device: string, request: ShareRequest): ServerSession {
  const what = `shares of ${device}`;
  if (isRepeat(ShareRequestSchema, { known: session.shared.get(device), now: request }, what)) return session;
  mustBe(session, ["sharing"], what);
  const { parties, sid } = groupOf(session);
  mustBeIn(parties, device, what);
  checkSession(what, request.session, sid);
  checkBytes(`commitment of ${device}`, request.commitment, 32);
  const bad = (expected: string, got: string) => () => new Fault("bad-message", what, { expected, got });
  const { length } = request.envelopes;
  demand(length <= parties.size, bad(`${parties.size} envelopes`, `${length}`));
  const to = new Set<string>();
  for (const envelope of request.envelopes) {
    demand(envelope.from === device, bad("envelopes from itself", "one from another"));
    demand(parties.has(envelope.to) && !to.has(envelope.to), bad("one to each member", "another address"));
    const bytes = envelope.sealed.length;
    demand(bytes <= MAX_SEALED_BYTES, bad(`at most ${MAX_SEALED_BYTES} bytes each`, `${bytes}`));
    const encoded = encode(EnvelopeSchema, envelope).length;
    demand(
      encoded <= MAX_ENVELOPE_BYTES,
      bad(`envelopes of at most ${MAX_ENVELOPE_BYTES} bytes`, `${encoded}`),
    );
    to.add(envelope.to);
  }
  demand(to.size === parties.size, bad(`${parties.size} envelopes`, `${to.size}`));
  return { ...session, shared: new Map([...session.shared, [device, request]]) };
}

/**
 * Stage 2: after U3 is sealed a new vector is refused; an old one is a repeat for as long as the session
 * lives.
 */
function onUpload(session: ServerSession, device: string): ServerSession {
  const what = `vector of ${device}`;
  if (session.uploaded.has(device)) return session;
  mustBe(session, ["masking"], what);
  mustBeIn(new Set(session.senders), device, what);
  return { ...session, uploaded: new Set([...session.uploaded, device]) };
}

/** Stage 3: a signature on the sets as this coordinator fixed them. */
function onAttest(session: ServerSession, device: string, request: AttestRequest): ServerSession {
  const what = `attestation of ${device}`;
  if (isRepeat(AttestRequestSchema, { known: session.attested.get(device), now: request }, what))
    return session;
  mustBe(session, ["attesting"], what);
  const { senders, survivors, trust } = session;
  mustBeIn(new Set(survivors), device, what);
  const { sid, root, parties } = groupOf(session);
  checkSession(what, request.session, sid);
  const { verify = portableVerify } = trust;
  const good = verify(
    parties.get(device)!.publicKey,
    attestStatement(sid, { root, senders, survivors }),
    request.signature,
  );
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
  const { senders, survivors, signers } = session;
  mustBeIn(new Set(signers), device, what);
  checkSession(what, request.session, groupOf(session).sid);
  const bad = (expected: string, got: string) => () => new Fault("bad-message", what, { expected, got });
  const of = new Set<string>();
  for (const share of request.shares) {
    demand(senders.includes(share.of) && !of.has(share.of), bad("one share of each sender", "another"));
    const kind = survivors.includes(share.of) ? "seed" : "maskKey";
    demand(share.share.case === kind, bad(`a ${kind} share of ${share.of}`, share.share.case ?? "none"));
    checkBytes(`${what}: of ${share.of}`, share.share.value, SHARE_BYTES);
    of.add(share.of);
  }
  const next = { ...session, revealed: new Map([...session.revealed, [device, request]]) };
  return isEnough(next) ? { ...next, phase: "complete" } : next;
}
