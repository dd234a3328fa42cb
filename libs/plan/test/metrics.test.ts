import { expect, test } from "vitest";
import { MAX_LOSS, METRICS, metricBounds, metricSlots, metricsOf } from "../src/metrics.ts";
import type { Plan } from "../src/plan.ts";

const METRIC_VALUES = { examples: 1, loss: 2, correct: 3, trainExamples: 4, trainLoss: 5 };

test("slots and back, in the order that METRICS fixes on the wire", () => {
  expect(METRICS).toEqual(["examples", "loss", "correct", "trainExamples", "trainLoss"]);
  expect(metricSlots(METRIC_VALUES)).toEqual([1, 2, 3, 4, 5]);
  expect(metricsOf(metricSlots(METRIC_VALUES))).toEqual(METRIC_VALUES);
});

test("a bound for each slot: counts up to maxWeight, losses MAX_LOSS times that", () => {
  const plan = { update: { maxWeight: 50, clip: 1, clipNorm: 1 } } as Plan;
  expect(metricBounds(plan)).toEqual([50, 50 * MAX_LOSS, 50, 50, 50 * MAX_LOSS]);
});
