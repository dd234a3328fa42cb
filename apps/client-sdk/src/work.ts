import { equalBytes } from "@tutti/foundation/bytes";
import { Fault } from "@tutti/foundation/fault";
import { activeLayout, taskHash } from "@tutti/round/spec";
import { Task_Kind } from "@tutti/wire/round";
import type { Accepted } from "./check.ts";
import { type Contributor, contribute } from "./contribute.ts";
import type { Contribution, Words } from "./vector.ts";

/** One training, and the invitation that this device answers with it. */
export type Work = {
  /** What it is trained for. */
  readonly begun: Accepted;
  /** To that task, to another attempt at it, or where the plan allows it to a later round. */
  accepted: Accepted;
  readonly done: Promise<Contribution>;
  readonly stop: AbortController;
  finished: boolean;
  /** Its vector has left the device: it may be in that round's sum, and enters no other round. */
  given: boolean;
};

export function beginWork(accepted: Accepted, by: Contributor): Work {
  const stop = new AbortController();
  const done = contribute(accepted, { ...by, signal: AbortSignal.any([by.signal, stop.signal]) });
  const work = { begun: accepted, accepted, done, stop, finished: false, given: false };
  done.then(
    () => {
      work.finished = true;
    },
    () => {},
  );
  return work;
}

export function endWork(work: Work | null, because: string): void {
  work?.stop.abort(new Fault("cancelled", "training", { got: because }));
}

/**
 * What a training in hand is to another invitation: for the same task; late, for a later round of the run
 * that may have it all the same; for no round before a later one, since this one moves other tensors; or
 * nothing. What it is trained from and what that round starts from are both of the run's lineage, in that
 * order: `checkInvite` has seen to it for each.
 */
export type Use = "same" | "late" | "later" | "none";

export function useOf(work: Work, next: Accepted): Use {
  if (equalBytes(taskHash(work.accepted.task), taskHash(next.task))) return "same";
  const { begun } = work;
  const { staleness } = next.plan;
  const by = next.task.round - begun.task.round;
  const trains = [begun, next].every(({ task }) => task.kind === Task_Kind.TRAIN);
  const may = staleness && trains && !work.given && begun.task.run === next.task.run;
  if (!may || by < 1 || by > staleness.max) return "none";
  if (sameTensors(begun, next)) return "late";
  return by < staleness.max ? "later" : "none";
}

/** Whether a round that goes on without this device leaves another that it may join with what it trains. */
export function mayJoinLater({ begun, accepted, given }: Work): boolean {
  const { plan, task } = accepted;
  const next = task.round + 1;
  const most = begun.task.round + (plan.staleness?.max ?? 0);
  return !given && task.kind === Task_Kind.TRAIN && next <= most && next < plan.rounds;
}

/** Its words for the round that it answers; an update that is late weighs less. */
export async function wordsOf({ begun, accepted, done }: Work): Promise<Words> {
  const late = accepted.task.round - begun.task.round;
  return (await done).words(late);
}

/** Rounds of RoLoRA move A and B in turn: an update of the one is no update of the other. */
function sameTensors(a: Accepted, b: Accepted): boolean {
  const names = (work: Accepted) => activeLayout(work).tensors.map(({ name }) => name);
  return names(a).join("\n") === names(b).join("\n");
}
