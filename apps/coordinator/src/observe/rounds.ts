import type { Clock } from "@tutti/foundation/clock";
import { stageNow } from "@tutti/round/cohorts";
import type { Coordinator } from "../drive/coordinator.ts";
import type { Driver } from "../drive/driver.ts";
import type { Observe, Seen } from "./seen.ts";

type Place = {
  readonly round: number;
  readonly attempt: number;
  readonly records: number;
  readonly state: string;
  readonly phase: string;
};
type Known = Place & { readonly phaseSince: Since; readonly attemptSince: Since };
type Since = { readonly wallMs: number; readonly nowMs: number };

/**
 * Tells of phases, attempts and runs as they end, from what is committed alone: the drivers do not know that
 * they are watched. Times count from when this process saw them begin.
 */
export function watchRounds(coordinator: Coordinator, clock: Clock, observe: Observe): () => void {
  const known = new Map<string, Known>();
  const look = () => {
    const since = { wallMs: clock.wallMs(), nowMs: clock.nowMs() };
    for (const driver of coordinator.drivers()) {
      const { run } = driver.options;
      const before = known.get(run);
      const now = placeOf(driver);
      if (before === undefined) {
        if (now.state === "running") known.set(run, { ...now, phaseSince: since, attemptSince: since });
        continue;
      }
      if (same(before, now)) continue;
      for (const seen of ended(driver, { before, now, since })) observe(seen);
      if (now.state !== "running") known.delete(run);
      else {
        const attemptSince = sameAttempt(before, now) ? before.attemptSince : since;
        known.set(run, { ...now, phaseSince: since, attemptSince });
      }
    }
  };
  look();
  return coordinator.watch(look);
}

/** Gathering, training, a stage of the secure sum, unmasking; empty between rounds. */
export function phaseOf({ round }: Driver): string {
  return round?.phase === "summing" ? stageNow(round.cohorts) : (round?.phase ?? "");
}

function placeOf(driver: Driver): Place {
  const { round, attempt, earlier, history, state } = driver.header;
  // The header holds the newest of them alone.
  return { round, attempt, records: earlier + history.length, state, phase: phaseOf(driver) };
}

function sameAttempt(a: Place, b: Place): boolean {
  return a.round === b.round && a.attempt === b.attempt && a.records === b.records && a.state === b.state;
}

function same(a: Place, b: Place): boolean {
  return sameAttempt(a, b) && a.phase === b.phase;
}

function ended(driver: Driver, at: { before: Known; now: Place; since: Since }): Seen[] {
  const { before, now, since } = at;
  const { run } = driver.options;
  const { history, reason } = driver.header;
  const which = { run, round: before.round, attempt: before.attempt };
  const took = ({ wallMs, nowMs }: Since) => ({ beganMs: wallMs, ms: since.nowMs - nowMs });
  const attemptBeganMs = before.attemptSince.wallMs;
  const seen: Seen[] = [
    { kind: "phase", phase: before.phase, attemptBeganMs, ...which, ...took(before.phaseSince) },
  ];
  if (sameAttempt(before, now)) return seen;
  const record = now.records > before.records ? history.at(-1) : undefined;
  const outcome = record ? (record.release ? "published" : "evaluated") : endOf(now.state);
  const told = { outcome, devices: record?.survivors ?? 0, reason: record ? "" : reason } as const;
  seen.push({ kind: "attempt", ...which, ...told, ...took(before.attemptSince) });
  if (now.state !== "running") seen.push({ kind: "run", run, state: now.state, reason });
  return seen;
}

function endOf(state: string): "stopped" | "failed" {
  return state === "stopped" ? "stopped" : "failed";
}
