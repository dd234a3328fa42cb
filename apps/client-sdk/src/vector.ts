import type { SeededRandom } from "@tutti/foundation/random";
import { type Metrics, metricSlots } from "@tutti/plan/metrics";
import type { Plan } from "@tutti/plan/plan";
import { scaleOf } from "@tutti/round/spec";
import { clip } from "@tutti/update/clip";
import { flatten, type Layout } from "@tutti/update/layout";
import { quantise } from "@tutti/update/quantise";

/** Tensors by name, as an adapter is held everywhere on the device. */
export type Parameters = ReadonlyMap<string, Float32Array>;

/** What one round made of this device's rows; waits here until a session takes it. */
export type Contribution = { readonly words: Uint32Array; readonly layout: Layout };

/** What the rows gave: the trained adapter, absent where the task only evaluates, and sums over rows. */
export type Outcome = {
  readonly parent: Parameters;
  readonly trained: Parameters | null;
  readonly metrics: Metrics;
};

/** clip → quantise: [weight·update…, weight, metrics…] as ring words (docs/protocol.md, The vector). */
export function wordsFor(
  plan: Plan,
  layout: Layout,
  given: { outcome: Outcome; random: SeededRandom },
): Uint32Array {
  const { outcome, random } = given;
  const { maxWeight, clipNorm } = plan.update;
  const update = outcome.trained
    ? clip(difference(layout, outcome.trained, outcome.parent), clipNorm)
    : NOTHING;
  const rows = outcome.trained ? outcome.metrics.trainExamples : outcome.metrics.examples;
  const metrics = metricSlots(bounded(outcome.metrics, maxWeight));
  return quantise({ update, weight: Math.min(rows, maxWeight), metrics }, scaleOf(plan), random);
}

const NOTHING = new Float32Array(0);

function difference(layout: Layout, after: Parameters, before: Parameters): Float32Array {
  const from = flatten(layout, before);
  return flatten(layout, after).map((value, at) => value - from[at]!);
}

/**
 * Sums over more rows than `most` are scaled down to `most`, so that a large site's means survive the slots'
 * bounds: clipping counts and losses apart would report an accuracy of 1 or a loss of 0.
 */
function bounded(metrics: Metrics, most: number): Metrics {
  const held = Math.min(1, most / Math.max(1, metrics.examples));
  const trained = Math.min(1, most / Math.max(1, metrics.trainExamples));
  return {
    examples: metrics.examples * held,
    loss: metrics.loss * held,
    correct: metrics.correct * held,
    trainExamples: metrics.trainExamples * trained,
    trainLoss: metrics.trainLoss * trained,
  };
}
