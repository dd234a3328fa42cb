import { seededRandom } from "@tutti/foundation/random";
import { fewestDevices, invitedOf, mostInvited } from "@tutti/plan/cohort";
import { type Round, tooFew } from "./state.ts";

/*
 * Gathering: which of the devices at the run's disposal are invited, and when.
 */

/** How long a round waits for more than the fewest devices when it does not know who will come. */
export const SETTLE_MS = 1_500;

/** Invites once everybody expected is here; with enough strangers, after a moment for more to come. */
export function gather(round: Round, nowMs: number): Round {
  const { spec, connected, phase } = round;
  const fewest = fewestDevices(spec.plan);
  if (phase !== "gathering") return round;
  // Who left may come back, or another may: until the end of the time for coming.
  if (connected.size < fewest) return { ...round, deadlineMs: round.joinUntilMs };
  const full = connected.size >= mostInvited(spec.plan);
  const familiar =
    spec.expected.size >= fewest && [...spec.expected].every((device) => connected.has(device));
  if (full || familiar) return invite(round, nowMs);
  return { ...round, deadlineMs: Math.min(round.deadlineMs, nowMs + SETTLE_MS) };
}

/** The deadline is over: with who came, if that is enough. With too few here, it is that for coming. */
export function endGathering(round: Round, nowMs: number): Round {
  const { connected, spec } = round;
  if (connected.size < fewestDevices(spec.plan)) return tooFew(round, "came", connected.size);
  return invite(round, nowMs);
}

/**
 * More than are needed, since some will be slow or vanish (Bonawitz et al. 2019, section 9: 130 %). Whom an
 * earlier round excused comes first. Among the others a draw that changes with every round decides, so that
 * nobody is left out for good.
 */
function invite(round: Round, nowMs: number): Round {
  const { plan, task, attempt, owed } = round.spec;
  const draw = seededRandom(`${plan.seed}/${task.run}/${task.round}/${attempt}/cohort`);
  const drawn = draw.shuffle([...round.connected].sort());
  const first = drawn.filter((device) => owed?.has(device));
  const order = [...first, ...drawn.filter((device) => !owed?.has(device))];
  const invited = new Set(order.slice(0, invitedOf(plan, order.length)));
  return { ...round, phase: "training", invited, deadlineMs: nowMs + plan.deadlines.trainMs };
}
