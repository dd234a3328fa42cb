import { assert, unreachable } from "@tutti/foundation/check";
import { Fault } from "@tutti/foundation/fault";
import { seededRandom } from "@tutti/foundation/random";
import type { JournalEntry } from "@tutti/wire/journal";
import { type RoundSpec, termsOf } from "./spec.ts";
import {
  awaited,
  beginSum,
  closeStage,
  remaining,
  type StageEvent,
  type Summing,
  stageOf,
  type Trust,
  take,
} from "./summing.ts";

/**
 * One attempt of one round as a pure state machine: `step(round, entry)` decides, apps/coordinator/drive
 * acts. Time comes with each entry, so that replaying a journal gives the same state bit for bit.
 */
export type Round = {
  readonly spec: RoundSpec;
  readonly trust: Trust;
  readonly phase: "gathering" | "training" | "summing" | "unmasking" | "failed";
  /** On the clock of the entries; when it passes, the phase closes with who came. */
  readonly deadlineMs: number;
  readonly connected: ReadonlySet<string>;
  readonly invited: ReadonlySet<string>;
  readonly ready: ReadonlySet<string>;
  readonly declined: ReadonlyMap<string, string>;
  readonly sum: Summing | null;
  /** Why the round failed; empty while it has not. */
  readonly reason: string;
};

export type Entry = Pick<JournalEntry, "nowMs" | "device" | "event">;

export type Effect =
  /** Add the vector that this device just sent to the running sum, in the entry's own transaction. */
  | { readonly kind: "add-vector"; readonly device: string }
  /** Unmask the sum, take the strategy's step, publish. */
  | { readonly kind: "complete" }
  | { readonly kind: "fail"; readonly reason: string };

/** How long a round waits for more than the fewest devices when it does not know who will come. */
export const SETTLE_MS = 1_500;

export function beginRound(
  spec: RoundSpec,
  options: { connected: Iterable<string>; nowMs: number; trust: Trust },
): Round {
  const { connected, nowMs, trust } = options;
  const fresh: Round = {
    spec,
    trust,
    phase: "gathering",
    deadlineMs: nowMs + spec.plan.deadlines.joinMs,
    connected: new Set(connected),
    invited: new Set(),
    ready: new Set(),
    declined: new Map(),
    sum: null,
    reason: "",
  };
  return gather(fresh, nowMs);
}

/**
 * The round after an entry, and what must be done about it. A Fault means that the entry is refused and the
 * round unchanged; the same object with no effect means a harmless repeat.
 */
export function step(round: Round, entry: Entry): [Round, Effect[]] {
  const [next, effects] = apply(round, entry);
  if (next === round) return [round, effects];
  const settled = settle(next, entry.nowMs);
  return [settled, [...effects, ...ending(round, settled)]];
}

function apply(round: Round, { device, event, nowMs }: Entry): [Round, Effect[]] {
  switch (event.case) {
    case "connected":
      return [
        round.connected.has(device) ? round : { ...round, connected: plus(round.connected, device) },
        [],
      ];
    case "disconnected":
      return [
        round.connected.has(device) ? { ...round, connected: minus(round.connected, device) } : round,
        [],
      ];
    case "ready":
      return [onReady(round, device), []];
    case "declined":
      return [onDeclined(round, device, event.value), []];
    case "advertised":
    case "picked":
    case "shared":
    case "uploaded":
    case "attested":
    case "revealed":
      return onStage(round, device, event);
    case "tick":
      return [nowMs >= round.deadlineMs ? onDeadline(round, nowMs) : round, []];
    case "recovered":
      return [{ ...round, deadlineMs: nowMs + patience(round) }, []];
    case "broken":
      return [round.phase === "unmasking" ? fail(round, event.value) : round, []];
    case undefined:
      throw new Fault("bad-message", "journal entry", { expected: "an event", got: "none" });
    default:
      return unreachable(event);
  }
}

function onReady(round: Round, device: string): Round {
  if (round.ready.has(device)) return round;
  mustBeInvited(round, device, "training");
  if (round.declined.has(device))
    throw new Fault("conflict", `${device} in round ${round.spec.task.round}`, { got: "declined before" });
  return { ...round, ready: plus(round.ready, device) };
}

function onDeclined(round: Round, device: string, reason: string): Round {
  if (round.declined.has(device)) return round;
  mustBeInvited(round, device, "training");
  const declined = new Map([...round.declined, [device, reason]]);
  // Who was ready may still change its mind, until keys are out.
  return { ...round, declined, ready: minus(round.ready, device) };
}

function onStage(round: Round, device: string, event: StageEvent): [Round, Effect[]] {
  if (round.sum === null) {
    throw new Fault("conflict", `${event.case} by ${device}`, {
      expected: "a session",
      got: `phase ${round.phase}`,
    });
  }
  const sum = take(round.sum, device, event);
  if (sum === round.sum) return [round, []];
  return [{ ...round, sum }, event.case === "uploaded" ? [{ kind: "add-vector", device }] : []];
}

/** The deadline closes a phase with who came; whether that is enough, the next phase's door decides. */
function onDeadline(round: Round, nowMs: number): Round {
  switch (round.phase) {
    case "gathering":
      return round.connected.size < round.spec.plan.cohort.min
        ? tooFew(round, "came", round.connected.size)
        : invite(round, nowMs);
    case "training":
      return openSum(round, nowMs);
    case "summing":
      assert(round.sum !== null, "a summing round has a sum");
      return nextStage(round, nowMs);
    case "unmasking":
    case "failed":
      return round;
  }
}

/** Moves on as long as nobody who is here is awaited: a device that vanished is never waited for. */
function settle(round: Round, nowMs: number): Round {
  let now = gather(round, nowMs);
  while (awaitedHere(now).length === 0 && (now.phase === "training" || now.phase === "summing")) {
    now = now.phase === "training" ? openSum(now, nowMs) : nextStage(now, nowMs);
  }
  return now;
}

/** Invites once everybody expected is here; with enough strangers, after a moment for more to come. */
function gather(round: Round, nowMs: number): Round {
  const { spec, connected, phase } = round;
  if (phase !== "gathering" || connected.size < spec.plan.cohort.min) return round;
  const full = connected.size >= spec.plan.cohort.max;
  const familiar =
    spec.expected.size >= spec.plan.cohort.min && [...spec.expected].every((device) => connected.has(device));
  if (full || familiar) return invite(round, nowMs);
  return { ...round, deadlineMs: Math.min(round.deadlineMs, nowMs + SETTLE_MS) };
}

/** Where more are here than fit: a draw that changes with every round, so nobody is left out for good. */
function invite(round: Round, nowMs: number): Round {
  const { plan, task, attempt } = round.spec;
  const draw = seededRandom(`${plan.seed}/${task.run}/${task.round}/${attempt}/cohort`);
  const invited = new Set(draw.shuffle([...round.connected].sort()).slice(0, plan.cohort.max));
  return { ...round, phase: "training", invited, deadlineMs: nowMs + plan.deadlines.trainMs };
}

/**
 * Only devices that are ready enter the cohort, so few vanish while keys are out (docs/architecture.md, A
 * round).
 */
function openSum(round: Round, nowMs: number): Round {
  const { plan } = round.spec;
  const members = new Set([...round.ready].filter((device) => round.connected.has(device)));
  if (members.size < plan.cohort.min) return tooFew(round, "were ready", members.size);
  const sum = beginSum(termsOf(round.spec), members, round.trust);
  return { ...round, phase: "summing", sum, deadlineMs: nowMs + plan.deadlines.stageMs };
}

function nextStage(round: Round, nowMs: number): Round {
  assert(round.sum !== null, "a summing round has a sum");
  const { cohort, deadlines } = round.spec.plan;
  // A session completes by itself as soon as enough shares are there.
  const sum = stageOf(round.sum) === "complete" ? round.sum : closeStage(round.sum);
  const stage = stageOf(sum);
  if (stage === "failed" && sum.kind === "secure") return fail({ ...round, sum }, sum.session.reason);
  const { count, did } = remaining(sum);
  if (count < cohort.min) return tooFew({ ...round, sum }, did, count);
  if (stage === "complete")
    return { ...round, sum, phase: "unmasking", deadlineMs: Number.POSITIVE_INFINITY };
  return { ...round, sum, deadlineMs: nowMs + deadlines.stageMs };
}

/** Devices that are connected and whose answer the phase waits for. */
export function awaitedHere(round: Round): string[] {
  if (round.phase === "training") {
    return [...round.invited].filter(
      (device) => round.connected.has(device) && !round.ready.has(device) && !round.declined.has(device),
    );
  }
  if (round.phase !== "summing" || round.sum === null) return [];
  return awaited(round.sum).filter((device) => round.connected.has(device));
}

function patience(round: Round): number {
  const { joinMs, trainMs, stageMs } = round.spec.plan.deadlines;
  if (round.phase === "gathering") return joinMs;
  return round.phase === "training"
    ? trainMs
    : round.phase === "summing"
      ? stageMs
      : Number.POSITIVE_INFINITY;
}

function ending(before: Round, after: Round): Effect[] {
  if (before.phase === after.phase) return [];
  if (after.phase === "unmasking") return [{ kind: "complete" }];
  return after.phase === "failed" ? [{ kind: "fail", reason: after.reason }] : [];
}

function mustBeInvited(round: Round, device: string, phase: Round["phase"]): void {
  if (round.phase !== phase)
    throw new Fault("conflict", `round ${round.spec.task.round}`, { expected: phase, got: round.phase });
  if (!round.invited.has(device))
    throw new Fault("refused", `${device} was not invited to round ${round.spec.task.round}`);
}

function tooFew(round: Round, what: string, count: number): Round {
  const refusals = [...round.declined].map(([device, why]) => `${device} declined: ${why}`);
  const said = `${count} of at least ${round.spec.plan.cohort.min} devices ${what}`;
  return fail(round, [said, ...refusals].join("; "));
}

/** The round as failed, for a reason that no entry can tell: its journal does not replay. */
export function abandon(round: Round, reason: string): Round {
  return fail(round, reason);
}

function fail(round: Round, reason: string): Round {
  return { ...round, phase: "failed", reason, deadlineMs: Number.POSITIVE_INFINITY };
}

function plus<T>(set: ReadonlySet<T>, item: T): ReadonlySet<T> {
  return new Set([...set, item]);
}

function minus<T>(set: ReadonlySet<T>, item: T): ReadonlySet<T> {
  return new Set([...set].filter((other) => other !== item));
}
