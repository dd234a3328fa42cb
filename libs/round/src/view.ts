import { fewestDevices, mostInvited } from "@tutti/plan/cohort";
import { isOver } from "./cohorts.ts";
import { isExcused } from "./excuse.ts";
import type { View } from "./schedule.ts";
import type { Round } from "./state.ts";
import { survivors } from "./summing.ts";

/** What a round wants of the devices that several runs share, and which of them it is engaged with. */
export function viewOf(round: Round): View {
  const { spec, phase, deadlineMs: untilMs } = round;
  const none: ReadonlySet<string> = new Set();
  switch (phase) {
    case "gathering":
      return {
        need: {
          fewest: fewestDevices(spec.plan),
          most: mostInvited(spec.plan),
          first: [...(spec.owed?.keys() ?? [])],
        },
        engaged: none,
        untilMs,
      };
    case "training": {
      const { invited, declined, revoked } = round;
      const at = [...invited].filter((device) => !declined.has(device) && !revoked.has(device));
      return { need: null, engaged: new Set(at), untilMs };
    }
    case "summing": {
      const going = round.cohorts.filter((cohort) => !isOver(cohort));
      const members = going.flatMap(({ sum }) => [...sum.members]);
      const at = [...members, ...lateOf(round)].filter((device) => !round.revoked.has(device));
      return { need: null, engaged: new Set(at), untilMs };
    }
    case "unmasking":
    case "failed":
      // Its devices have said all they can.
      return { need: null, engaged: none, untilMs: Number.POSITIVE_INFINITY };
  }
}

/** Who trains on though the round goes on without it: where an update may be late, a later round wants it. */
function lateOf(round: Round): string[] {
  if (!round.spec.plan.staleness) return [];
  return [...round.invited].filter((device) => !round.ready.has(device) && isExcused(round, device));
}

/** Whether two states of a round may differ in what they want; told without looking at each device. */
export function sameView(a: Round, b: Round): boolean {
  if (a.phase !== b.phase || a.deadlineMs !== b.deadlineMs) return false;
  if (a.invited !== b.invited || a.declined !== b.declined || a.revoked !== b.revoked) return false;
  return (
    a.cohorts.length === b.cohorts.length &&
    a.cohorts.every((one, at) => isOver(one) === isOver(b.cohorts[at]!))
  );
}

/** Whom a round invited, and of them those who gave a vector, whether or not its sum was opened. */
export function givers({ invited, cohorts }: Round): { invited: string[]; gave: string[] } {
  return { invited: [...invited], gave: cohorts.flatMap(({ sum }) => survivors(sum)) };
}
