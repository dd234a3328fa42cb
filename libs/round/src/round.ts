import { unreachable } from "@tutti/foundation/check";
import { Fault } from "@tutti/foundation/fault";
import { awaitedOf, type Cohort, fewestCounted, isOver, nextStage, takeInto, whyTooFew } from "./cohorts.ts";
import { endGathering, gather } from "./gather.ts";
import { mustNotBeRevoked, revoke } from "./revoke.ts";
import type { RoundSpec } from "./spec.ts";
import { type Effect, type Entry, fail, failWith, minus, plus, type Round } from "./state.ts";
import type { StageEvent, Trust } from "./summing.ts";
import { isEnough, onDeclined, onReady, openSums, trainingHere } from "./train.ts";

export type { Effect, Entry, Round } from "./state.ts";

/*
 * One attempt of one round as a pure state machine: `step(round, entry)` decides, apps/coordinator/drive
 * acts. Time comes with each entry, so that replaying a journal gives the same state bit for bit. A phase's
 * own rules are in gather.ts, train.ts and cohorts.ts.
 */

export function beginRound(
  spec: RoundSpec,
  options: { connected: Iterable<string>; nowMs: number; trust: Trust },
): Round {
  const { connected, nowMs, trust } = options;
  const joinUntilMs = nowMs + spec.plan.deadlines.joinMs;
  const fresh: Round = {
    spec,
    trust,
    phase: "gathering",
    deadlineMs: joinUntilMs,
    joinUntilMs,
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
      return endGathering(round, nowMs);
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
  if (now.phase === "training" && isEnough(now)) now = openSums(now, nowMs);
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
  // Of none, infinity: no device is waited for, and what opens the sums has a limit of its own.
  const deadlineMs = Math.min(...deadlines);
  return { ...round, deadlineMs, phase: deadlines.length === 0 ? "unmasking" : "summing" };
}

function eachCohort(round: Round, change: (cohort: Cohort) => Cohort): Round {
  return { ...round, cohorts: round.cohorts.map(change) };
}

/** Devices that are connected and whose answer the phase waits for. */
export function awaitedHere(round: Round): string[] {
  if (round.phase === "training") return trainingHere(round);
  if (round.phase !== "summing") return [];
  return round.cohorts.flatMap((cohort) => awaitedOf(cohort, round.connected));
}

/** Deadlines start anew: devices could not be heard while the coordinator was away. */
function onRecovered(round: Round, nowMs: number): Round {
  const { joinMs, trainMs, stageMs } = round.spec.plan.deadlines;
  switch (round.phase) {
    case "gathering":
      return { ...round, deadlineMs: nowMs + joinMs, joinUntilMs: nowMs + joinMs };
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

/** The round as failed, for a reason that no entry can tell: its journal does not replay. */
export function abandon(round: Round, reason: string): Round {
  return { ...fail(round, reason), abandoned: true };
}
