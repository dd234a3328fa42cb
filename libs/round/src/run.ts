import { fromHex } from "@tutti/foundation/bytes";
import type { Plan } from "@tutti/plan/plan";
import type { RoundRecord } from "@tutti/wire/admin";
import { type RunHeader, RunHeaderSchema } from "@tutti/wire/journal";
import { create } from "@tutti/wire/message";
import { type Task, Task_Kind, TaskSchema } from "@tutti/wire/round";

/*
 * A run between rounds: pure functions from header to header. Rounds 0 … rounds−1 train; one more
 * evaluates the last release; then the run is finished. A round that fails is tried again,
 * `plan.attempts` times in all; then the run fails, and its owner may give it as many again.
 */

/** A release as the header knows it: version, manifest digest and adapter artifact in hex SHA-256. */
export type ReleaseRef = { readonly version: number; readonly manifest: string; readonly adapter: string };

export function firstHeader(initial: ReleaseRef): RunHeader {
  return create(RunHeaderSchema, { state: "running", ...initial });
}

/** The work of the header's round. */
export function taskOf(run: string, plan: Plan, header: RunHeader): Task {
  return create(TaskSchema, {
    run,
    round: header.round,
    kind: header.round < plan.rounds ? Task_Kind.TRAIN : Task_Kind.EVALUATE,
    parent: fromHex(header.manifest),
    clipNorm: plan.privacy?.adaptiveClip ? header.clipNorm || plan.update.clipNorm : 0,
  });
}

/** After a round that succeeded: with a release when it trained, without when it evaluated. */
export function afterSuccess(
  plan: Plan,
  header: RunHeader,
  outcome: {
    record: RoundRecord;
    cohort: readonly string[];
    release?: ReleaseRef;
    strategy?: string;
    /** The next round's, where the plan's norm adapts. */
    clipNorm?: number;
    /** Who is invited first next time. */
    owed: ReadonlyMap<string, number>;
  },
): RunHeader {
  const { record, cohort, release, strategy, clipNorm, owed } = outcome;
  const last = header.round >= plan.rounds;
  return {
    ...header,
    ...release,
    strategy: strategy ?? header.strategy,
    round: last ? header.round : header.round + 1,
    attempt: 0,
    maxAttempts: 0,
    cohort: [...cohort],
    history: [...header.history, record],
    rho: header.rho + record.rho,
    clipNorm: clipNorm ?? header.clipNorm,
    owed: Object.fromEntries(owed),
    state: last ? "finished" : "running",
    reason: "",
  };
}

/**
 * After a round that failed by name: tried again, or the run fails with that reason. `rho` is what sums that
 * were opened all the same have cost, `owed` who is invited first to the next attempt.
 */
export function afterFailure(
  plan: Plan,
  header: RunHeader,
  { reason, rho, owed }: { reason: string; rho: number; owed: ReadonlyMap<string, number> },
): RunHeader {
  const attempt = header.attempt + 1;
  const most = header.maxAttempts || plan.attempts;
  const sentence = `round ${header.round}, attempt ${attempt} of ${most}: ${reason}`;
  const spent = { rho: header.rho + rho, owed: Object.fromEntries(owed) };
  return {
    ...header,
    ...spent,
    attempt,
    state: attempt < most ? "running" : "failed",
    reason: sentence,
  };
}

export function afterStop(header: RunHeader, rho: number): RunHeader {
  if (header.state !== "running") return header;
  return { ...header, rho: header.rho + rho, state: "stopped", reason: "stopped by its owner" };
}

/**
 * A run that failed or was stopped goes on: from its newest release and its strategy's state, with what it
 * spent. Attempts are counted on, so that no word of the one that was stopped fits the next.
 */
export function afterResume(plan: Plan, header: RunHeader): RunHeader {
  const { attempt, reason } = header;
  const stopped = header.state === "stopped";
  const made = attempt + (stopped ? 1 : 0);
  const rest = { maxAttempts: made + plan.attempts, reason: stopped ? "" : reason };
  return { ...header, ...rest, attempt: made, state: "running" };
}
