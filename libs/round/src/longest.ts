import type { Plan } from "@tutti/plan/plan";
import { FULL_GRAPH } from "@tutti/secagg/threshold";

/**
 * The longest that devices can keep an attempt at a round from its end, be they slow, silent or gone: every
 * phase as long as its deadline. Counted from its first entry, or from the last time that the coordinator
 * came back, when deadlines start anew. What the coordinator does by itself then is not in it: opening the
 * sums, and publishing.
 */
export function longestRoundMs(
  plan: Pick<Plan, "cohort" | "deadlines"> & {
    secureAggregation: Pick<Plan["secureAggregation"], "enabled">;
  },
): number {
  const { joinMs, trainMs, stageMs } = plan.deadlines;
  return joinMs + trainMs + stagesOf(plan) * stageMs;
}

/** Upload; under masks advertise, share, attest and reveal too, and beyond a size pick. */
function stagesOf({ cohort, secureAggregation }: Parameters<typeof longestRoundMs>[0]): number {
  if (!secureAggregation.enabled) return 1;
  return cohort.max > FULL_GRAPH ? 6 : 5;
}
