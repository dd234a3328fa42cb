import { equalBytes } from "@tutti/foundation/bytes";
import { Fault } from "@tutti/foundation/fault";
import { advance, openSession, receive, type ServerSession, waitingFor } from "@tutti/secagg/server/session";
import type { JournalEntry } from "@tutti/wire/journal";
import type { Terms } from "@tutti/wire/secagg";
import { plainSessionId } from "./spec.ts";

/** What a session needs to check certificates; the same at every replay of a round. */
export type Trust = Parameters<typeof openSession>[1];

/** A sum in progress: under masks, or in the clear where the plan and every member's policy say so. */
export type Summing =
  | { readonly kind: "secure"; readonly members: ReadonlySet<string>; readonly session: ServerSession }
  | {
      readonly kind: "plain";
      readonly members: ReadonlySet<string>;
      readonly terms: Terms;
      readonly uploaded: ReadonlySet<string>;
      readonly closed: boolean;
    };

/** Messages of the sum's stages, as the journal holds them. */
export type StageEvent = Extract<
  JournalEntry["event"],
  { case: "advertised" | "picked" | "shared" | "uploaded" | "attested" | "revealed" }
>;

/**
 * Shares awaited beyond t: one liar is outvoted and named instead of spoiling the sum (docs/attacks.md,
 * attack 13).
 */
const SPARE_SHARES = 1;

export function beginSum(terms: Terms, members: ReadonlySet<string>, trust: Trust): Summing {
  if (terms.plain) return { kind: "plain", members, terms, uploaded: new Set(), closed: false };
  return {
    kind: "secure",
    members,
    session: openSession(terms, { ...trust, members, spareShares: SPARE_SHARES }),
  };
}

/** The state after a device's message; the same object when the message is a repeat. */
export function take(sum: Summing, device: string, event: StageEvent): Summing {
  if (!sum.members.has(device)) {
    throw new Fault("refused", `session: ${device} is not in this cohort`, {
      todo: "Wait for the next round",
    });
  }
  if (sum.kind === "secure") {
    const session = receive(sum.session, device, stageMessage(event));
    return session === sum.session ? sum : { ...sum, session };
  }
  if (event.case !== "uploaded")
    throw new Fault("bad-message", "plain session", { expected: "an upload", got: event.case });
  if (sum.uploaded.has(device)) return sum;
  if (sum.closed)
    throw new Fault("conflict", "plain session", { expected: "an upload before the sum closed" });
  return { ...sum, uploaded: new Set([...sum.uploaded, device]) };
}

/** Whom the present stage still waits for. */
export function awaited(sum: Summing): string[] {
  if (sum.kind === "secure") return waitingFor(sum.session);
  return [...sum.members].filter((device) => !sum.uploaded.has(device));
}

/** Closes the present stage with who came. */
export function closeStage(sum: Summing): Summing {
  return sum.kind === "secure" ? { ...sum, session: advance(sum.session) } : { ...sum, closed: true };
}

/** "complete", "failed", or the stage in progress. */
export function stageOf(sum: Summing): string {
  if (sum.kind === "secure") return sum.session.phase;
  return sum.closed ? "complete" : "masking";
}

/** Devices whose vectors are in the sum, sorted. */
export function survivors(sum: Summing): string[] {
  const names = sum.kind === "secure" ? sum.session.uploaded : sum.uploaded;
  return [...names].sort();
}

/** How many devices the sum can still hold, and the last thing that they did. */
export function remaining(sum: Summing): { count: number; did: string } {
  if (sum.kind === "plain") return { count: sum.uploaded.size, did: "uploaded" };
  const { phase, crew, group, senders, uploaded } = sum.session;
  if (phase === "picking") return { count: crew?.parties.size ?? 0, did: "advertised" };
  if (phase === "sharing") return { count: group?.parties.size ?? 0, did: "advertised" };
  return phase === "masking"
    ? { count: senders.length, did: "shared" }
    : { count: uploaded.size, did: "uploaded" };
}

/**
 * The id every later message of the session carries: docs/protocol.md, Session id, or its counterpart without
 * masks.
 */
export function sessionId(sum: Summing): Uint8Array {
  if (sum.kind === "plain") return plainSessionId(sum.terms);
  if (!sum.session.sid)
    throw new Fault("conflict", "session", { expected: "a fixed roster", got: "an earlier stage" });
  return sum.session.sid;
}

/** Whether a message that names its session, or before there is one its roster, is about this sum. */
export function isFor(sum: Summing, named: Uint8Array): boolean {
  if (sum.kind === "plain") return equalBytes(plainSessionId(sum.terms), named);
  const { sid, crew } = sum.session;
  return [sid, crew?.root].some((own) => own && equalBytes(own, named));
}

function stageMessage(event: StageEvent): Parameters<typeof receive>[2] {
  switch (event.case) {
    case "advertised":
      return { stage: "advertise", advertisement: event.value };
    case "picked":
      return { stage: "pick", request: event.value };
    case "shared":
      return { stage: "share", request: event.value };
    case "uploaded":
      return { stage: "upload" };
    case "attested":
      return { stage: "attest", request: event.value };
    case "revealed":
      return { stage: "reveal", request: event.value };
  }
}
