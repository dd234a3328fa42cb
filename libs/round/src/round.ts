import { unreachable } from "@tutti/foundation/check";
import { Fault } from "@tutti/foundation/fault";
import { seededRandom } from "@tutti/foundation/random";
import type { JournalEntry } from "@tutti/wire/journal";
import {
  awaitedOf,
  beginCohort,
  type Cohort,
  deal,
  fewestCounted,
  fewestDevices,
  isOver,
  nextStage,
  takeInto,
  whyTooFew,
} from "./cohorts.ts";
import { mustNotBeRevoked, revoke } from "./revoke.ts";
import type { RoundSpec } from "./spec.ts";
import type { StageEvent, Trust } from "./summing.ts";

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
  /** Devices that were revoked since the round began. */
  readonly revoked: ReadonlySet<string>;
  /** None until the devices that are ready are dealt into them; from then on as many, dropped or not. */
  readonly cohorts: readonly Cohort[];
  /** What this round's central noise is drawn from; null until it is needed, and in other modes. */
  readonly noise: Uint8Array | null;
  /** Why the round failed; empty while it has not. */
  readonly reason: string;
};

export type Entry = Pick<JournalEntry, "nowMs" | "device" | "event">;

export type Effect =
  /** Add the vector that this device just sent to its cohort's running sum, in the entry's transaction. */
  | { readonly kind: "add-vector"; readonly device: string; readonly cohort: number }
  /** Unmask the sums, combine their means, take the strategy's step, publish. */
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
    revoked: new Set(),
    cohorts: [],
    noise: null,
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
  mustNotBeRevoked(round, { device, event });
  switch (event.case) {
    case "revoked":
      return [revoke(round, device), []];
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
      return [onRecovered(round, nowMs), []];
    case "broken":
      return [round.phase === "unmasking" ? fail(round, event.value) : round, []];
    case "noise":
      return lacksNoise(round) ? [{ ...round, noise: event.value }, [{ kind: "complete" }]] : [round, []];
    case undefined:
      throw new Fault("bad-message", "journal entry", { expected: "an event", got: "none" });
    default:
      return unreachable(event);
  }
}

/** Whether the coordinator must fix what its noise is drawn from before this round's sums are opened. */
export function lacksNoise({ phase, noise, spec }: Round): boolean {
  return phase === "unmasking" && noise === null && spec.plan.privacy?.mode === "central";
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
  const at = cohortOf(round, device);
  if (at === null) {
    throw new Fault("conflict", `${event.case} by ${device}`, {
      expected: "a session",
      got: `phase ${round.phase}`,
    });
  }
  const before = round.cohorts[at] as Cohort;
  const cohort = takeInto(before, device, event);
  if (cohort === before) return [round, []];
  // A dropped cohort's sum is never opened, so nothing more is added to it.
  if (before.dropped)
    throw new Fault("conflict", `${event.case} by ${device}`, {
      expected: "a cohort in progress",
      got: `one that was dropped: ${before.dropped}`,
    });
  const effects: Effect[] = event.case === "uploaded" ? [{ kind: "add-vector", device, cohort: at }] : [];
  return [{ ...round, cohorts: round.cohorts.with(at, cohort) }, effects];
}

/**
 * Which cohort the device is in; null before there are any.
 * @throws Fault("refused") for a device that is in none.
 */
export function cohortOf({ cohorts }: Round, device: string): number | null {
  if (cohorts.length === 0) return null;
  const at = cohorts.findIndex(({ sum }) => sum.members.has(device));
  if (at >= 0) return at;
  throw new Fault("refused", `session: ${device} is not in this cohort`, { todo: "Wait for the next round" });
}

/** The deadline closes a phase with who came; whether that is enough, the next phase's door decides. */
function onDeadline(round: Round, nowMs: number): Round {
  switch (round.phase) {
    case "gathering":
      return round.connected.size < fewestDevices(round.spec.plan)
        ? tooFew(round, "came", round.connected.size)
        : invite(round, nowMs);
    case "training":
      return openSums(round, nowMs);
    case "summing":
      return eachCohort(round, (cohort) =>
        !isOver(cohort) && nowMs >= cohort.deadlineMs ? nextStage(cohort, round.spec, nowMs) : cohort,
      );
    case "unmasking":
    case "failed":
      return round;
  }
}

/** Moves on as long as nobody who is here is awaited: a device that vanished is never waited for. */
function settle(round: Round, nowMs: number): Round {
  const { spec, connected } = round;
  let now = gather(round, nowMs);
  if (now.phase === "training" && awaitedHere(now).length === 0) now = openSums(now, nowMs);
  if (now.phase !== "summing") return now;
  return conclude(
    eachCohort(now, (cohort) => {
      let on = cohort;
      while (!isOver(on) && awaitedOf(on, connected).length === 0) on = nextStage(on, spec, nowMs);
      return on;
    }),
  );
}

/** The round's end, once its cohorts are over or too few of them are left; else when it looks again. */
function conclude(round: Round): Round {
  const { cohorts, spec } = round;
  const counted = cohorts.filter(({ dropped }) => dropped === "");
  if (counted.length < fewestCounted(spec.plan, cohorts.length)) {
    const reasons = cohorts.map(({ dropped }) => dropped);
    return failWith(round, whyTooFew(spec.plan, reasons));
  }
  const deadlines = counted.filter((cohort) => !isOver(cohort)).map(({ deadlineMs }) => deadlineMs);
  // Of none, infinity.
  const deadlineMs = Math.min(...deadlines);
  return { ...round, deadlineMs, phase: deadlines.length === 0 ? "unmasking" : "summing" };
}

/** Invites once everybody expected is here; with enough strangers, after a moment for more to come. */
function gather(round: Round, nowMs: number): Round {
  const { spec, connected, phase } = round;
  const fewest = fewestDevices(spec.plan);
  if (phase !== "gathering" || connected.size < fewest) return round;
  const full = connected.size >= mostDevices(spec.plan);
  const familiar =
    spec.expected.size >= fewest && [...spec.expected].every((device) => connected.has(device));
  if (full || familiar) return invite(round, nowMs);
  return { ...round, deadlineMs: Math.min(round.deadlineMs, nowMs + SETTLE_MS) };
}

/** Where more are here than fit: a draw that changes with every round, so nobody is left out for good. */
function invite(round: Round, nowMs: number): Round {
  const { plan, task, attempt } = round.spec;
  const draw = seededRandom(`${plan.seed}/${task.run}/${task.round}/${attempt}/cohort`);
  const invited = new Set(draw.shuffle([...round.connected].sort()).slice(0, mostDevices(plan)));
  return { ...round, phase: "training", invited, deadlineMs: nowMs + plan.deadlines.trainMs };
}

/**
 * Only devices that are ready enter a cohort, so few vanish while keys are out (docs/architecture.md, A
 * round).
 */
function openSums(round: Round, nowMs: number): Round {
  const { spec, trust } = round;
  const ready = [...round.ready].filter((device) => round.connected.has(device));
  if (ready.length < fewestDevices(spec.plan)) return tooFew(round, "were ready", ready.length);
  const deadlineMs = nowMs + spec.plan.deadlines.stageMs;
  const cohorts = deal(spec, ready).map((members) => beginCohort(spec, members, { trust, deadlineMs }));
  return { ...round, phase: "summing", cohorts, deadlineMs };
}

function eachCohort(round: Round, change: (cohort: Cohort) => Cohort): Round {
  return { ...round, cohorts: round.cohorts.map(change) };
}

/** Devices that are connected and whose answer the phase waits for. */
export function awaitedHere(round: Round): string[] {
  if (round.phase === "training") {
    return [...round.invited].filter(
      (device) => round.connected.has(device) && !round.ready.has(device) && !round.declined.has(device),
    );
  }
  if (round.phase !== "summing") return [];
  return round.cohorts.flatMap((cohort) => awaitedOf(cohort, round.connected));
}

/** Deadlines start anew: devices could not be heard while the coordinator was away. */
function onRecovered(round: Round, nowMs: number): Round {
  const { joinMs, trainMs, stageMs } = round.spec.plan.deadlines;
  switch (round.phase) {
    case "gathering":
      return { ...round, deadlineMs: nowMs + joinMs };
    case "training":
      return { ...round, deadlineMs: nowMs + trainMs };
    case "summing":
      return eachCohort(round, (cohort) => ({ ...cohort, deadlineMs: nowMs + stageMs }));
    case "unmasking":
    case "failed":
      return { ...round };
  }
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
  return failWith(round, `${count} of at least ${fewestDevices(round.spec.plan)} devices ${what}`);
}

/** With what devices said that declined: it may be why. */
function failWith(round: Round, said: string): Round {
  const refusals = [...round.declined].map(([device, why]) => `${device} declined: ${why}`);
  return fail(round, [said, ...refusals].join("; "));
}

/** The round as failed, for a reason that no entry can tell: its journal does not replay. */
export function abandon(round: Round, reason: string): Round {
  return fail(round, reason);
}

function fail(round: Round, reason: string): Round {
  return { ...round, phase: "failed", reason, deadlineMs: Number.POSITIVE_INFINITY };
}

function mostDevices({ cohort }: RoundSpec["plan"]): number {
  return cohort.count * cohort.max;
}

function plus<T>(set: ReadonlySet<T>, item: T): ReadonlySet<T> {
  return new Set([...set, item]);
}

function minus<T>(set: ReadonlySet<T>, item: T): ReadonlySet<T> {
  return new Set([...set].filter((other) => other !== item));
}
