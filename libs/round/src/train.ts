import { Fault } from "@tutti/foundation/fault";
import { fewestDevices, placesFor } from "@tutti/plan/cohort";
import { beginCohort, deal } from "./cohorts.ts";
import { minus, plus, type Round, tooFew } from "./state.ts";

/*
 * Training: who is ready or declines, when that is enough, and who then sums.
 */

export function onReady(round: Round, device: string): Round {
  if (round.ready.has(device)) return round;
  mustBeTraining(round, device);
  if (round.declined.has(device))
    throw new Fault("conflict", `${device} in round ${round.spec.task.round}`, { got: "declined before" });
  return { ...round, ready: plus(round.ready, device) };
}

export function onDeclined(round: Round, device: string, reason: string): Round {
  if (round.declined.has(device)) return round;
  mustBeTraining(round, device);
  const declined = new Map([...round.declined, [device, reason]]);
  // Who was ready may still change its mind, until keys are out.
  return { ...round, declined, ready: minus(round.ready, device) };
}

/** Devices that were invited, are here, and have not answered yet. */
export function trainingHere({ invited, connected, ready, declined }: Round): string[] {
  return [...invited].filter(
    (device) => connected.has(device) && !ready.has(device) && !declined.has(device),
  );
}

/**
 * Whether nobody is worth waiting for: every place is taken that the devices ready or still training could
 * take between them, or none of them trains any more.
 */
export function isEnough(round: Round): boolean {
  const { plan } = round.spec;
  const training = trainingHere(round).length;
  const ready = readyHere(round).length;
  return training === 0 || (ready >= fewestDevices(plan) && ready >= placesFor(plan, ready + training));
}

/**
 * Only devices that are ready enter a cohort, so few vanish while keys are out (docs/architecture.md, A
 * round).
 */
export function openSums(round: Round, nowMs: number): Round {
  const { spec, trust } = round;
  const ready = readyHere(round);
  if (ready.length < fewestDevices(spec.plan)) return tooFew(round, "were ready", ready.length);
  const deadlineMs = nowMs + spec.plan.deadlines.stageMs;
  const cohorts = deal(spec, ready).map((members) => beginCohort(spec, members, { trust, deadlineMs }));
  return { ...round, phase: "summing", cohorts, deadlineMs };
}

function readyHere({ ready, connected }: Round): string[] {
  return [...ready].filter((device) => connected.has(device));
}

function mustBeTraining(round: Round, device: string): void {
  const name = `round ${round.spec.task.round}`;
  if (round.phase !== "training")
    throw new Fault("conflict", name, { expected: "training", got: round.phase });
  if (!round.invited.has(device)) throw new Fault("refused", `${device} was not invited to ${name}`);
}
