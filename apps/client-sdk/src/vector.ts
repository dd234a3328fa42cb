import type { SeededRandom } from "@tutti/foundation/random";
import { type Metrics, metricSlots } from "@tutti/plan/metrics";
import type { Plan } from "@tutti/plan/plan";
import { lateFactor } from "@tutti/plan/staleness";
import { scaleOf } from "@tutti/round/spec";
import type { Group } from "@tutti/secagg/group";
import { clip } from "@tutti/update/clip";
import { flatten, type Layout } from "@tutti/update/layout";
import { quantise, type Vector } from "@tutti/update/quantise";

/** Tensors by name, as an adapter is held everywhere on the device. */
export type Parameters = ReadonlyMap<string, Float32Array>;

/**
 * What one round made of this device's rows; waits here until a session takes it. Under noise the words are
 * made for each session anew, from who is in it. `words` tells them for a round so many after that one: 0,
 * except where the plan lets an update be late.
 */
export type Contribution = { readonly layout: Layout; words(late: number): Words };
export type Words = Uint32Array | ((group: Group) => Uint32Array);

/** What the rows gave: the trained adapter, absent where the task only evaluates, and sums over rows. */
export type Outcome = {
  readonly parent: Parameters;
  readonly trained: Parameters | null;
  readonly metrics: Metrics;
};

/** clip → quantise: [weight·update…, weight, metrics…] as ring words (docs/protocol.md, The vector). */
export function contributionOf(
  plan: Plan,
  layout: Layout,
  { outcome, random }: { outcome: Outcome; random: SeededRandom },
): Contribution {
  const { maxWeight, clipNorm } = plan.update;
  const update = clip(updateOf(layout, outcome), clipNorm);
  const rows = outcome.trained ? outcome.metrics.trainExamples : outcome.metrics.examples;
  const vector = { update, weight: Math.min(rows, maxWeight), metrics: slotsOf(plan, outcome) };
  // Made before a round asks for them, so that what cannot be quantised makes the device decline.
  const words = quantise(vector, scaleOf(plan), random.fork("quantise"));
  return { layout, words: plan.staleness ? lateWords(plan, vector, { words, random }) : () => words };
}

/**
 * Under masks only the device can make its update weigh less, so it does: the weight is scaled before it is
 * quantised, and so the update weighs, and counts in the sum of weights, what came of it. The metrics are
 * sums over rows, and stay what they are.
 */
function lateWords(
  plan: Plan,
  vector: Vector,
  { words, random }: { words: Words; random: SeededRandom },
): Contribution["words"] {
  return (late) => {
    if (late === 0 || !plan.staleness) return words;
    const weight = vector.weight * lateFactor(plan.staleness, late);
    return quantise({ ...vector, weight }, scaleOf(plan), random.fork(`quantise/${late}`));
  };
}

/** Trained minus sent, over the tensors that travel. */
export function updateOf(layout: Layout, { trained, parent }: Outcome): Float32Array {
  return trained ? difference(layout, trained, parent) : NOTHING;
}

/** The metrics as they go into the vector, in METRICS' order. */
export function slotsOf({ update }: Plan, { metrics }: Outcome): number[] {
  return metricSlots(bounded(metrics, update.maxWeight));
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
