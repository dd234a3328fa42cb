import { equalBytes } from "@tutti/foundation/bytes";
import { demand } from "@tutti/foundation/check";
import { Fault } from "@tutti/foundation/fault";
import { type DescMessage, encode, type MessageShape } from "@tutti/wire/message";
import type {
  Advertisement,
  Attestations,
  AttestRequest,
  Delivery,
  PickRequest,
  Picks,
  RevealRequest,
  Roster,
  ShareRequest,
  Survivors,
  Terms,
} from "@tutti/wire/secagg";
import type { Agree } from "../agree.ts";
import type { Crew, Group, Party, Trust } from "../group.ts";

export type Phase =
  | "advertising"
  | "picking"
  | "sharing"
  | "masking"
  | "attesting"
  | "revealing"
  | "complete"
  | "failed";

/** What a coordinator knows of a session; plain data, and nothing in it is secret before devices reveal. */
export type ServerSession = {
  readonly terms: Terms;
  readonly trust: SessionTrust;
  readonly phase: Phase;
  /** Why the session failed; empty while it has not. */
  readonly reason: string;
  /** Stage 0, by name. */
  readonly advertised: ReadonlyMap<string, Party>;
  /** Who advertised, and what their number asks for, once stage 0 is closed. */
  readonly crew: Crew | null;
  /** The holders that each member picked, where there are more than 100. */
  readonly picked: ReadonlyMap<string, PickRequest>;
  /** U1 and what follows from it: once stage 0 is closed, or on a sparse graph once the picks are in. */
  readonly group: Group | null;
  readonly sid: Uint8Array | null;
  readonly shared: ReadonlyMap<string, ShareRequest>;
  /** U2, ascending, once stage 1 is closed. */
  readonly senders: readonly string[];
  readonly uploaded: ReadonlySet<string>;
  /** U3, ascending, once stage 2 is closed: sealed. */
  readonly survivors: readonly string[];
  readonly attested: ReadonlyMap<string, AttestRequest>;
  /** U4, ascending, once stage 3 is closed. */
  readonly signers: readonly string[];
  readonly revealed: ReadonlyMap<string, RevealRequest>;
  /** How many shares of each sender's secret were revealed. */
  readonly counts: ReadonlyMap<string, number>;
};

/**
 * `spareShares`: how many shares beyond t of every secret a session waits for before it completes by itself.
 * Without spares it is as quick as can be, and one bad share spoils the sum; with k, k liars are outvoted and
 * named. `members`: whom the session is for, where the coordinator knows; the first stage waits for them.
 */
export type SessionTrust = Trust & {
  readonly spareShares?: number;
  readonly members?: ReadonlySet<string>;
  /** A platform's faster X25519. */
  readonly agree?: Agree;
};

/**
 * A device's message to its session, by stage. The vector itself is the coordinator's: "upload" says it is
 * in.
 */
export type StageMessage =
  | { readonly stage: "advertise"; readonly advertisement: Advertisement }
  | { readonly stage: "pick"; readonly request: PickRequest }
  | { readonly stage: "share"; readonly request: ShareRequest }
  | { readonly stage: "upload" }
  | { readonly stage: "attest"; readonly request: AttestRequest }
  | { readonly stage: "reveal"; readonly request: RevealRequest };

/** What a device should be told now. */
export type Word =
  | { readonly kind: "open"; readonly message: Terms }
  | { readonly kind: "roster"; readonly message: Roster }
  | { readonly kind: "picks"; readonly message: Picks }
  | { readonly kind: "delivery"; readonly message: Delivery }
  | { readonly kind: "survivors"; readonly message: Survivors }
  | { readonly kind: "attestations"; readonly message: Attestations };

export function crewOf({ crew, phase }: ServerSession): Crew {
  demand(
    crew,
    () => new Fault("conflict", "session", { expected: "a closed first stage", got: `phase ${phase}` }),
  );
  return crew;
}

/** The group of a session past its first stage. */
export function groupOf({ group, phase }: ServerSession): Group {
  demand(
    group,
    () => new Fault("conflict", "session", { expected: "a fixed roster", got: `phase ${phase}` }),
  );
  return group;
}

/**
 * @throws Fault("conflict") for a message outside its phase: early, or too late, such as a vector after U3 is
 * sealed.
 */
export function mustBe(session: ServerSession, phases: readonly Phase[], what: string): void {
  demand(
    phases.includes(session.phase),
    () => new Fault("conflict", what, { expected: `phase ${phases.join(" or ")}`, got: session.phase }),
  );
}

/** Whether a device says again what it said. @throws Fault("conflict") when it says something else. */
export function isRepeat<D extends DescMessage>(
  schema: D,
  pair: { known: MessageShape<D> | undefined; now: MessageShape<D> },
  what: string,
): boolean {
  const { known, now } = pair;
  if (known === undefined) return false;
  const same = equalBytes(encode(schema, known), encode(schema, now));
  demand(
    same,
    () => new Fault("conflict", what, { expected: "what it sent before", got: "another message" }),
  );
  return true;
}

/** @throws Fault("refused") for a device outside the set that may answer. */
export function mustBeIn(set: { has(name: string): boolean }, device: string, what: string): void {
  demand(
    set.has(device),
    () => new Fault("refused", what, { expected: "a device of the earlier stages", got: device }),
  );
}
