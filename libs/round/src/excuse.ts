import type { Round } from "./state.ts";

/*
 * Whom a round does without: devices that were invited and are in none of its sums, since others were enough
 * or they were too late. They are told so at once (words.ts), and are invited first another time.
 */

/** Whether the round goes on without a device that it invited and that did not decline. */
export function isExcused(round: Round, device: string): boolean {
  const { phase, invited, declined, revoked } = round;
  const summed = phase === "summing" || phase === "unmasking";
  return (
    summed && invited.has(device) && !declined.has(device) && !revoked.has(device) && !isMember(round, device)
  );
}

/**
 * Who is invited first next time, and how many times in a row that makes: whom this round excused, and
 * whoever was owed an invitation and has not been in a sum since. That ends after one round, or after as many
 * as an update may be late by: a device that is always too slow does not take a place from others for good.
 */
export function owedAfter(round: Round): Map<string, number> {
  const { spec, invited, connected, declined, revoked, ready } = round;
  const before = spec.owed ?? new Map<string, number>();
  // Nobody was chosen and nobody excused.
  if (round.cohorts.length === 0) return new Map(before);
  const most = spec.plan.staleness?.max ?? 1;
  const left = (device: string) => !revoked.has(device) && !isMember(round, device);
  const still = [...before].flatMap(([device, times]): [string, number][] =>
    times < most && left(device) ? [[device, times + 1]] : [],
  );
  // Who was never there has nothing to make up for.
  const came = [...invited].filter((device) => connected.has(device) || ready.has(device));
  const fresh = came.filter((device) => left(device) && !before.has(device) && !declined.has(device));
  return new Map([...still, ...fresh.map((device): [string, number] => [device, 1])]);
}

function isMember({ cohorts }: Round, device: string): boolean {
  return cohorts.some(({ sum }) => sum.members.has(device));
}
