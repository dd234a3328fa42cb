import { Fault } from "@tutti/foundation/fault";
import * as v from "valibot";

/** The sizes of a round: how many devices are asked, how many are enough, and in how many sums. */

const natural = (low: number, high: number) =>
  v.pipe(v.number(), v.integer(), v.minValue(low), v.maxValue(high));

/** How the means of a round's cohorts become one (libs/strategy/src/combine.ts). */
const combine = v.union([
  v.picklist(["mean", "median", "geometric-median"]),
  v.strictObject({
    name: v.literal("trimmed-mean"),
    /** Share of the cohorts that is cut off at each end, coordinate by coordinate. */
    trim: v.pipe(v.number(), v.gtValue(0), v.ltValue(0.5)),
  }),
]);

const sizes = {
  /** Fewest devices whose updates are summed; below it the round fails by name. */
  min: natural(2, 1000),
  max: natural(2, 1000),
  /** Most cohorts in a round, each with a sum of its own; `min` and `max` are of each. */
  count: v.optional(natural(1, 64), 1),
  combine: v.optional(combine, "mean"),
  /** Devices that are enough for the whole round; absent: as many as its cohorts can hold. */
  target: v.exactOptional(natural(2, 64_000)),
};

/** Devices invited, in multiples of those that are enough. */
const overInvite = v.pipe(v.number(), v.minValue(1), v.maxValue(10));

export const cohortOfRunFile = v.strictObject({ ...sizes, overInvite: v.optional(overInvite, 1.3) });
/** A plan without `overInvite` was signed before there was one: nobody is invited who may not be needed. */
export const cohortOfPlan = v.strictObject({ ...sizes, overInvite: v.exactOptional(overInvite) });

type Sizes = { readonly cohort: v.InferOutput<typeof cohortOfPlan> };

/** @throws Fault("bad-input") for sizes that contradict each other. */
export function checkCohort(what: string, { cohort }: Sizes): void {
  const bad = (expected: string, got: string) => new Fault("bad-input", what, { expected, got });
  const { min, max, count, combine, target } = cohort;
  if (min > max) throw bad("min ≤ max", `${min} > ${max}`);
  // Of two, a median is their mean, and either can move it as far as it likes.
  if (combine !== "mean" && count < 3) throw bad("count ≥ 3 with this combine", `${count}`);
  if (typeof combine === "object" && Math.floor(combine.trim * count + 1e-9) < 1)
    throw bad("trim · count ≥ 1", `${combine.trim} · ${count}`);
  const [fewest, most] = [fewestDevices({ cohort }), max * count];
  if (target !== undefined && (target < fewest || target > most))
    throw bad(`target from ${fewest}, the fewest, to ${most}, max · count`, `${target}`);
}

/**
 * How few cohorts a round may be dealt into. A median of one or two follows any of them, so every rule but
 * the mean wants three, and at least half of those that the plan asks for.
 */
export function fewestDealt({ cohort }: Sizes): number {
  return cohort.combine === "mean" ? 1 : Math.max(3, Math.ceil(cohort.count / 2));
}

/** Fewest devices that a round can do with. */
export function fewestDevices(plan: Sizes): number {
  return fewestDealt(plan) * plan.cohort.min;
}

/** How many of n devices a round has places for: its target at most, and no more than its cohorts hold. */
export function placesFor({ cohort }: Sizes, n: number): number {
  const { min, max, count, target = max * count } = cohort;
  return Math.min(n, target, max * Math.min(count, Math.floor(n / min)));
}

/** How many of n devices are invited: some more than there are places for, since not all will be ready. */
export function invitedOf(plan: Sizes, n: number): number {
  const { overInvite = 1 } = plan.cohort;
  // A product such as 10 · 1.1 is a little above 11.
  return Math.min(n, Math.ceil(placesFor(plan, n) * overInvite * (1 - 1e-12)));
}

/** Most devices that are ever invited to one round. */
export function mostInvited(plan: Sizes): number {
  return invitedOf(plan, Number.MAX_SAFE_INTEGER);
}
