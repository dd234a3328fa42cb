import { create } from "@tutti/wire/message";
import {
  AttestationSchema,
  AttestationsSchema,
  DeliverySchema,
  RosterSchema,
  SurvivorsSchema,
  type Terms,
} from "@tutti/wire/secagg";
import { checkTerms } from "../group.ts";
import { groupOf, type ServerSession, type SessionTrust, type Word } from "./state.ts";

export { advance } from "./advance.ts";
export { receive } from "./receive.ts";
export type { Phase, ServerSession, SessionTrust, StageMessage, Word } from "./state.ts";
export { unmask } from "./unmask.ts";

/** A session in its first stage. Pure: replaying the same messages gives the same session. */
export function openSession(terms: Terms, trust: SessionTrust): ServerSession {
  checkTerms(terms);
  return {
    terms,
    trust,
    phase: "advertising",
    reason: "",
    advertised: new Map(),
    group: null,
    sid: null,
    shared: new Map(),
    senders: [],
    uploaded: new Set(),
    survivors: [],
    attested: new Map(),
    signers: [],
    revealed: new Map(),
  };
}

/**
 * Devices that may still answer in this phase, ascending. In the first one: of `trust.members`, if it was
 * given.
 */
export function waitingFor(session: ServerSession): string[] {
  return candidates(session)
    .filter((device) => !hasAnswered(session, device))
    .sort();
}

/**
 * What a device should be told now; null once it has answered, or when it is not in. Saying it twice is
 * harmless.
 */
export function wordFor(session: ServerSession, device: string): Word | null {
  const { phase, trust } = session;
  const stranger = phase === "advertising" && trust.members === undefined;
  if (hasAnswered(session, device)) return null;
  if (!stranger && !candidates(session).includes(device)) return null;
  switch (phase) {
    case "advertising":
      return { kind: "open", message: session.terms };
    case "sharing":
      return rosterWord(session);
    case "masking":
      return deliveryWord(session, device);
    case "attesting": {
      const message = create(SurvivorsSchema, {
        session: groupOf(session).sid,
        devices: [...session.survivors],
      });
      return { kind: "survivors", message };
    }
    case "revealing":
      return attestationsWord(session);
    case "complete":
    case "failed":
      return null;
  }
}

/** Who may answer in this phase, whether it did or not. */
function candidates(session: ServerSession): readonly string[] {
  switch (session.phase) {
    case "advertising":
      return [...(session.trust.members ?? [])];
    case "sharing":
      return [...groupOf(session).parties.keys()];
    case "masking":
      return session.senders;
    case "attesting":
      return session.survivors;
    case "revealing":
      return session.signers;
    case "complete":
    case "failed":
      return [];
  }
}

function hasAnswered(session: ServerSession, device: string): boolean {
  switch (session.phase) {
    case "advertising":
      return session.advertised.has(device);
    case "sharing":
      return session.shared.has(device);
    case "masking":
      return session.uploaded.has(device);
    case "attesting":
      return session.attested.has(device);
    case "revealing":
      return session.revealed.has(device);
    case "complete":
    case "failed":
      return true;
  }
}

function rosterWord(session: ServerSession): Word {
  const { terms, threshold, parties } = groupOf(session);
  const members = [...parties.values()].map(({ advertisement }) => advertisement);
  return { kind: "roster", message: create(RosterSchema, { terms, threshold, members }) };
}

function deliveryWord(session: ServerSession, device: string): Word {
  const envelopes = session.senders.map((sender) => {
    return session.shared.get(sender)!.envelopes.find(({ to }) => to === device)!;
  });
  return { kind: "delivery", message: create(DeliverySchema, { session: groupOf(session).sid, envelopes }) };
}

function attestationsWord(session: ServerSession): Word {
  const signed = session.signers.map((device) => {
    return create(AttestationSchema, { device, signature: session.attested.get(device)!.signature });
  });
  return {
    kind: "attestations",
    message: create(AttestationsSchema, { session: groupOf(session).sid, signed }),
  };
}
