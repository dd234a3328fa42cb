import { seededRandom } from "@tutti/foundation/random";
import { placesFor } from "@tutti/plan/cohort";
import type { Plan } from "@tutti/plan/plan";
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

/** One cohort of a round: a sum of its own, with its own members, stages and deadlines. */
export type Cohort = {
  readonly sum: Summing;
  /** When its present stage closes with who came; nothing looks at it once the cohort is over. */
  readonly deadlineMs: number;
  /** Why it is counted no more; empty while it is. */
  readonly dropped: string;
};

/**
 * How few of the cohorts dealt must be left to be combined. For every rule but the mean more than half, so
 * that spoiling a cohort gains no more than lying in it: while fewer than half are spoilt or lie, most of
 * those that are left do neither.
 */
export function fewestCounted({ cohort }: Pick<Plan, "cohort">, dealt: number): number {
  return cohort.combine === "mean" ? 1 : Math.floor(dealt / 2) + 1;
}

/**
 * The members of each cohort: as many cohorts as there are devices for, at most `cohort.count`, of sizes that
 * differ by one at most. The draw changes with every round and attempt, and the order of `devices` does not
 * matter. Where there are more devices than places, the last in the draw are in none.
 */
export function deal({ plan, task, attempt }: RoundSpec, devices: Iterable<string>): string[][] {
  const { min, count } = plan.cohort;
  const draw = seededRandom(`${plan.seed}/${task.run}/${task.round}/${attempt}/deal`);
  const all = draw.shuffle([...devices].sort());
  const drawn = all.slice(0, placesFor(plan, all.length));
  const cohorts = Math.min(count, Math.floor(drawn.length / min));
  return Array.from({ length: cohorts }, (_, at) => drawn.filter((_, place) => place % cohorts === at));
}

export function beginCohort(
  spec: RoundSpec,
  members: readonly string[],
  { trust, deadlineMs }: { trust: Trust; deadlineMs: number },
): Cohort {
  return { sum: beginSum(termsOf(spec), new Set(members), trust), deadlineMs, dropped: "" };
}

/** The cohort after its member's message; the same object when the message is a repeat. */
export function takeInto(cohort: Cohort, device: string, event: StageEvent): Cohort {
  const sum = take(cohort.sum, device, event);
  return sum === cohort.sum ? cohort : { ...cohort, sum };
}

/** Whether nothing more is awaited of it: its sum may be opened, or is not wanted any more. */
export function isOver({ sum, dropped }: Cohort): boolean {
  // A session completes by itself as soon as enough shares are there.
  return dropped !== "" || stageOf(sum) === "complete";
}

/** For people watching: the stage of the first cohort that is in progress. */
export function stageNow(cohorts: readonly Cohort[]): string {
  const first = cohorts.find((cohort) => !isOver(cohort));
  return first ? stageOf(first.sum) : "complete";
}

/** Members that are connected and whose answer the cohort's stage waits for. */
export function awaitedOf(cohort: Cohort, connected: ReadonlySet<string>): string[] {
  return isOver(cohort) ? [] : awaited(cohort.sum).filter((device) => connected.has(device));
}

/** Closes the present stage with who came; with too few of them the cohort is dropped by name. */
export function nextStage(cohort: Cohort, { plan }: RoundSpec, nowMs: number): Cohort {
  const sum = closeStage(cohort.sum);
  const { count, did } = remaining(sum);
  if (sum.kind === "secure" && sum.session.phase === "failed")
    return drop({ ...cohort, sum }, sum.session.reason);
  const { min } = plan.cohort;
  if (count < min) return drop({ ...cohort, sum }, `${count} of at least ${min} devices ${did}`);
  return { ...cohort, sum, deadlineMs: nowMs + plan.deadlines.stageMs };
}

export function drop(cohort: Cohort, reason: string): Cohort {
  return { ...cohort, dropped: reason };
}

/** Why too few cohorts are left: the reason of the only one, or of each that was dropped. */
export function whyTooFew(plan: Pick<Plan, "cohort">, dropped: readonly string[]): string {
  if (dropped.length === 1) return dropped[0] as string;
  const left = dropped.filter((reason) => reason === "").length;
  const said = `${left} of at least ${fewestCounted(plan, dropped.length)} cohorts are left`;
  const reasons = dropped.flatMap((reason, at) =>
    reason === "" ? [] : [`cohort ${at + 1} of ${dropped.length}: ${reason}`],
  );
  return [said, ...reasons].join("; ");
}
