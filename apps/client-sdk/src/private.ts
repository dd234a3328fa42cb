import type { SeededRandom } from "@tutti/foundation/random";
import { rhoOf } from "@tutti/privacy/accountant";
import { withinClip } from "@tutti/privacy/adaptive-clip";
import { privatise } from "@tutti/privacy/distributed";
import { type Entry, permitSpend } from "@tutti/privacy/ledger";
import { joinVector } from "@tutti/privacy/vector";
import {
  gridOfSum,
  type Privacy,
  priceOf,
  rotationOf,
  sizeOf,
  slotOptions,
  updateBound,
} from "@tutti/round/privacy";
import type { RoundSpec } from "@tutti/round/spec";
import type { Group } from "@tutti/secagg/group";
import type { Site } from "./site.ts";

/** Where a device writes down what it gives away, kept through restarts (libs/privacy/src/ledger.ts). */
export type Spending = {
  entries(): readonly Entry[];
  /** On disk before it returns. */
  add(entry: Entry): void;
};

/** A spending book for one process. */
export function memorySpending(): Spending {
  const entries: Entry[] = [];
  return { entries: () => entries, add: (entry) => void entries.push(entry) };
}

type Work = Pick<RoundSpec, "plan" | "task" | "attempt">;

/** The device's one vector of a round, cut to its norm: not to be shown to anyone as it is. */
export function vectorOf(work: Work, update: Float32Array, metrics: readonly number[]): Float32Array {
  const options = slotOptions(work);
  const bit = work.plan.privacy?.adaptiveClip ? [withinClip(update, updateBound(work))] : [];
  return joinVector(update, [...metrics, ...bit], options);
}

/**
 * The vector as noised ring words for one session, whose size says how much noise its members share. The
 * price is written down first, at the fewest survivors that the session may end with: a round that then fails
 * has been paid for. Noise is fresh for each session.
 * @throws Fault("refused") beyond the site's budget; Fault("storage") when the price cannot be written.
 */
export function privateWords(
  { work, vector, rounding }: { work: Work; vector: Float32Array; rounding: SeededRandom },
  site: Pick<Site, "policy" | "secret" | "spending">,
): (group: Group) => Uint32Array {
  return (group) => {
    const { plan, task } = work;
    const grid = gridOfSum(work, plan.privacy!, sizeOf(group));
    spend(entryOf(work, priceOf(grid, group.least).rho), site);
    return privatise(vector, grid, { rotation: rotationOf(task), rounding, noise: site.secret });
  };
}

function entryOf({ plan, task, attempt }: Work, rho: number): Entry {
  return { run: task.run, round: task.round, attempt, rho, delta: plan.privacy!.delta };
}

function spend(entry: Entry, { policy, spending }: Pick<Site, "policy" | "spending">): void {
  if (policy.privacy) permitSpend(spending.entries(), entry, policy.privacy);
  spending.add(entry);
}

/**
 * Refuses a round, before anything is trained for it, of a run whose rest this site cannot afford: what is
 * given away to a run that cannot end is given away for nothing. Failed attempts may still use the budget up.
 * @throws Fault("refused") naming the budget and what was spent of it.
 */
export function permitRound(
  work: Work,
  privacy: Privacy,
  { policy, spending }: Pick<Site, "policy" | "spending">,
): void {
  if (!policy.privacy) return;
  const { plan, task } = work;
  // The rounds that are left, this one and the last, which only evaluates, included.
  const rho = rhoOf(privacy.noiseMultiplier) * (plan.rounds - task.round + 1);
  const rest = { ...entryOf(work, rho), round: plan.rounds };
  permitSpend(spending.entries(), rest, policy.privacy);
}
