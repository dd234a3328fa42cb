import type { Group } from "@tutti/secagg/group";
import { mayBeOpened } from "@tutti/secagg/server/revealed";
import { create } from "@tutti/wire/message";
import { type PrivacySpent, PrivacySpentSchema } from "@tutti/wire/transcript";
import { gridOfSum, priceOf, sizeOf } from "./privacy.ts";
import type { Round } from "./round.ts";
import type { RoundSpec } from "./spec.ts";
import { survivors } from "./summing.ts";

type Work = Pick<RoundSpec, "plan" | "task">;

/** What a sum costs each device in it, by who really was in it; undefined where the plan claims nothing. */
export function costOfSum(work: Work, group: Group, devices: number): PrivacySpent | undefined {
  const { privacy } = work.plan;
  if (!privacy) return undefined;
  const { noiseMultiplier, rho } = priceOf(gridOfSum(work, privacy, sizeOf(group)), devices);
  return create(PrivacySpentSchema, { mode: privacy.mode, noiseMultiplier, rho });
}

/**
 * What a round that came to nothing has cost: the dearest of the sums whose masks could be taken off, whether
 * or not they were; or may have been, where its journal does not say.
 */
export function rhoAtRisk({
  spec,
  cohorts,
  abandoned,
}: Pick<Round, "spec" | "cohorts" | "abandoned">): number {
  const costs = cohorts.map(({ sum }) => {
    if (sum.kind === "plain") return 0;
    const { group, phase } = sum.session;
    const unknown = abandoned && (phase === "attesting" || phase === "revealing");
    if (!group || !(unknown || mayBeOpened(sum.session))) return 0;
    return costOfSum(spec, group, survivors(sum).length)?.rho ?? 0;
  });
  return Math.max(0, ...costs);
}
