import type { Plan } from "./plan.ts";

/**
 * What a device adds to its vector beside the update, one slot each, in this order. All are sums over the
 * device's rows, so that the cohort's sum divides into a mean; none ever travels in the clear.
 */
export const METRICS = ["examples", "loss", "correct", "trainExamples", "trainLoss"] as const;
export type Metric = (typeof METRICS)[number];
export type Metrics = { readonly [M in Metric]: number };

/** Loss per example above this is counted as this: it bounds the slot, and so its resolution. */
export const MAX_LOSS = 20;

/** Upper bound of each slot (the lower one is 0): counts up to the plan's maxWeight, losses MAX_LOSS each. */
export function metricBounds({ update: { maxWeight } }: Plan): number[] {
  return METRICS.map((metric) =>
    metric === "loss" || metric === "trainLoss" ? maxWeight * MAX_LOSS : maxWeight,
  );
}

/** Slot values in METRICS' order. */
export function metricSlots(metrics: Metrics): number[] {
  return METRICS.map((metric) => metrics[metric]);
}

/** The named sums behind slot values. */
export function metricsOf(slots: readonly number[]): Metrics {
  return Object.fromEntries(METRICS.map((metric, at) => [metric, slots[at] ?? 0])) as Metrics;
}
