import { metricBounds } from "@tutti/plan/metrics";
import type { Plan } from "@tutti/plan/plan";
import { type Grid, gridFor, realised } from "@tutti/privacy/grid";
import { boundsOf, type VectorOptions } from "@tutti/privacy/vector";
import type { Group } from "@tutti/secagg/group";
import { corruptible, leastFor } from "@tutti/secagg/threshold";
import { type Task, Task_Kind } from "@tutti/wire/round";
import { activeLayout, graphNeed, type RoundSpec } from "./spec.ts";

/*
 * Differential privacy of a round (docs/privacy.md): what devices and the coordinator both derive from plan,
 * task and roster. The vector is one, [update…, metric slots…, clip bit], with one L2 bound, one mechanism
 * and one price.
 */

export type Privacy = NonNullable<Plan["privacy"]>;
type Work = Pick<RoundSpec, "plan" | "task">;

/** How a sum's size enters its noise: members, and the honest ones that no revealed sum lacks. */
export type SumSize = { readonly members: number; readonly honest: number };

/** Who may know noise beside its own: the coordinator's, n_C of n, and always one other device. */
function knowing(members: number): number {
  return Math.max(1, corruptible(members));
}

/** Honest devices in any sum that can be revealed: the fewest survivors less those that may be corrupt. */
export function sizeOf({ parties, least }: Pick<Group, "parties" | "least">): SumSize {
  const members = parties.size;
  return { members, honest: least - knowing(members) };
}

/** c: the L2 bound of the whole vector in this round. */
export function clipOf(plan: Plan, task: Pick<Task, "clipNorm">): number {
  return plan.privacy?.adaptiveClip ? task.clipNorm : plan.update.clipNorm;
}

/** The slots behind the update: METRICS, and where the norm adapts the bit of Andrew et al. 2021. */
export function slotOptions({ plan, task }: Work): VectorOptions {
  const bounds = [...metricBounds(plan), ...(plan.privacy?.adaptiveClip ? [1] : [])];
  return { clip: clipOf(plan, task), bounds, share: plan.privacy?.slots ?? 0.1 };
}

/** Coordinates of the vector before it is padded to the grid's. */
export function vectorLength(work: Work): number {
  return activeLayout(work).length + slotOptions(work).bounds.length;
}

/** The L2 bound that is the update's own part of c; what adapting compares its norm with. */
export function updateBound(work: Work): number {
  return boundsOf(slotOptions(work)).update;
}

/**
 * The grid of a sum: its realised noise multiplier is the plan's at least.
 * @throws Fault("bad-input") where the plan's bits cannot hold it.
 */
export function gridOfSum(work: Work, privacy: Privacy, { members, honest }: SumSize): Grid {
  const { mode, noiseMultiplier } = privacy;
  return gridFor({
    bits: work.plan.secureAggregation.bits,
    devices: members,
    honest,
    dimension: vectorLength(work),
    clip: clipOf(work.plan, work.task),
    noiseMultiplier,
    mode,
  });
}

/** Public, and the same for all: the update is fixed before anyone could choose it by this. */
export function rotationOf({ run, round }: Pick<Task, "run" | "round">): string {
  return `tutti/rotation/v1/${run}/${round}`;
}

/** The price of a round to each honest device in it, by who really was in the sum. */
export function priceOf(grid: Grid, survivors: number): { noiseMultiplier: number; rho: number } {
  return realised(grid, survivors, knowing(grid.devices));
}

/** A plan whose noise no word of its bits can hold is refused before anybody trains. */
export function checkPrivacy(plan: Plan): void {
  const { privacy, cohort, rounds } = plan;
  if (!privacy) return;
  const lost = Math.round(graphNeed(plan).lost * 1000);
  for (const members of [cohort.min, cohort.max]) {
    const honest = leastFor(members, { lost }) - knowing(members);
    for (const kind of [Task_Kind.TRAIN, Task_Kind.EVALUATE]) {
      const round = kind === Task_Kind.TRAIN ? 0 : rounds;
      const task = { $typeName: "tutti.v1.Task", run: "", round, kind, parent: new Uint8Array() } as const;
      gridOfSum({ plan, task: { ...task, clipNorm: plan.update.clipNorm } }, privacy, { members, honest });
    }
  }
}
