import { Memo } from "@tutti/foundation/memo";
import type { Terms } from "@tutti/wire/secagg";
import { checkTerms } from "../group.ts";
import { crewOf, groupOf, type ServerSession, type SessionTrust, type Word } from "./state.ts";
import { attestationsWord, deliveryWord, picksWord, rosterWord, survivorsWord } from "./words.ts";

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
    crew: null,
    picked: new Map(),
    group: null,
    sid: null,
    shared: new Map(),
    senders: [],
    uploaded: new Set(),
    survivors: [],
    attested: new Map(),
    signers: [],
    revealed: new Map(),
    counts: new Map(),
  };
}

/**
 * Devices that may still answer in this phase, ascending. In the first one: of `trust.members`, if it was
 * given.
 */
export function waitingFor(session: ServerSession): string[] {
  const answered = answeredIn(session);
  return candidatesOf(session).names.filter((device) => !answered.has(device));
}

/**
 * What a device should be told now; null once it has answered, or when it is not in. Saying it twice is
 * harmless.
 */
export function wordFor(session: ServerSession, device: string): Word | null {
  const { phase, trust } = session;
  const stranger = phase === "advertising" && trust.members === undefined;
  if (hasAnswered(session, device)) return null;
  if (!stranger && !candidatesOf(session).set.has(device)) return null;
  switch (phase) {
    case "advertising":
      return { kind: "open", message: session.terms };
    case "picking":
      return rosterWord(session);
    case "sharing":
      return session.picked.size > 0 ? picksWord(session) : rosterWord(session);
    case "masking":
      return deliveryWord(session, device);
    case "attesting":
      return survivorsWord(session);
    case "revealing":
      return attestationsWord(session);
    case "complete":
    case "failed":
      return null;
  }
}

/** Who may answer in this phase, whether it did or not. */
function candidatesOf(session: ServerSession): Candidates {
  switch (session.phase) {
    case "advertising":
      return listed(session.trust.members ?? NOBODY);
    case "picking":
      return listed(crewOf(session).parties);
    case "sharing":
      return listed(groupOf(session).parties);
    case "masking":
      return listed(session.senders);
    case "attesting":
      return listed(session.survivors);
    case "revealing":
      return listed(session.signers);
    case "complete":
    case "failed":
      return listed(NOBODY);
  }
}

function hasAnswered(session: ServerSession, device: string): boolean {
  return session.phase === "complete" || session.phase === "failed" || answeredIn(session).has(device);
}

/** Who has answered in this phase. */
function answeredIn(session: ServerSession): { has(device: string): boolean } {
  const { advertised, picked, shared, uploaded, attested, revealed } = session;
  switch (session.phase) {
    case "advertising":
      return advertised;
    case "picking":
      return picked;
    case "sharing":
      return shared;
    case "masking":
      return uploaded;
    case "attesting":
      return attested;
    case "revealing":
      return revealed;
    case "complete":
    case "failed":
      return new Set();
  }
}

/** A set of devices in order, and for looking one up. */
type Candidates = { readonly names: readonly string[]; readonly set: { has(device: string): boolean } };

const NOBODY: readonly string[] = [];

/** Every message of a stage asks for the same one. */
const candidates = new Memo<object, Candidates>();

function listed(devices: readonly string[] | ReadonlySet<string> | ReadonlyMap<string, unknown>): Candidates {
  return candidates.of(devices, () => {
    // A list's own keys are its places.
    const names = "has" in devices ? [...devices.keys()] : [...devices];
    return { names: names.sort(), set: new Set(names) };
  });
}
