import { readTensors, writeTensors } from "@tutti/adapter/formats/safetensors";
import { assert } from "@tutti/foundation/check";
import { METRICS, metricsOf } from "@tutti/plan/metrics";
import { checkCohortNorm, combine } from "@tutti/strategy/combine";
import { ruleOf } from "@tutti/strategy/rule";
import { serverStep } from "@tutti/strategy/step";
import { flatten, layoutOf, unflatten } from "@tutti/update/layout";
import { dequantise, roundingNorm } from "@tutti/update/quantise";
import { type RoundRecord, RoundRecordSchema } from "@tutti/wire/admin";
import { create } from "@tutti/wire/message";
import { readNoisedSum } from "./noised.ts";
import type { SumSize } from "./privacy.ts";
import { activeLayout, type RoundSpec, scaleOf, termsOf } from "./spec.ts";

/** What a cohort's plain sum says. */
export type Result = {
  /** The mean update over the active layout. */
  readonly mean: Float32Array;
  /** Examples behind it. */
  readonly weight: number;
  readonly devices: number;
  /** Sums over the rows of its devices. */
  readonly metrics: readonly number[];
  /** The next round's clip norm, where the plan's adapts; else 0. */
  readonly clipNorm: number;
};

/** Whose sum it is: devices in it, and under noise what fixed how much each of them added. */
export type SumOf = { readonly devices: number; readonly size: SumSize | null };

/**
 * Reads a plain sum of `devices` quantised vectors, l words in the ring (docs/protocol.md, The vector).
 * @throws Fault for a sum that no such vectors have: a value out of range, no weight at all, or a mean longer
 * than the clip norm.
 */
export function readSum(spec: RoundSpec, sum: Uint32Array, { devices, size }: SumOf): Result {
  const { privacy } = spec.plan;
  if (privacy) {
    assert(size !== null, "noise is added under masks only");
    const read = readNoisedSum(spec, privacy, { sum, size, survivors: devices });
    checkCohortNorm(read.mean, { clipNorm: read.longest, slack: 0 });
    const { mean, metrics } = read;
    // Every device weighs the same: a weight would be one more thing to say of it.
    return { mean, weight: devices, devices, metrics, clipNorm: read.clipNorm };
  }
  const scale = scaleOf(spec.plan);
  const of = { scale, length: activeLayout(spec).length, devices };
  const { mean, weight, metrics } = dequantise(sum, of);
  checkCohortNorm(mean, { clipNorm: spec.plan.update.clipNorm, slack: roundingNorm(of, weight) });
  return { mean, weight, devices, metrics, clipNorm: 0 };
}

/** One mean update from those of the cohorts that are counted, as the plan says. */
export function combineResults({ plan }: RoundSpec, results: readonly Result[]): Float32Array {
  return combine(results, plan.cohort.combine);
}

/** The next round's clip norm where it adapts: the mean of the counted cohorts' own. */
export function nextClipNorm(results: readonly Result[]): number {
  return results.reduce((sum, { clipNorm }) => sum + clipNorm, 0) / results.length;
}

/** The round's record: sums over the cohorts that are counted. */
export function recordOf(spec: RoundSpec, results: readonly Result[]): RoundRecord {
  const { plan, task } = spec;
  const { bits, length } = termsOf(spec);
  const total = (values: readonly number[]) => values.reduce((sum, value) => sum + value, 0);
  const slots = METRICS.map((_, slot) => total(results.map(({ metrics }) => metrics[slot]!)));
  const { examples, loss, correct, trainExamples, trainLoss } = metricsOf(slots);
  return create(RoundRecordSchema, {
    round: task.round,
    survivors: total(results.map(({ devices }) => devices)),
    examples,
    loss: share(loss, examples),
    // Noise may have counted more right answers than rows.
    accuracy: Math.min(1, share(correct, examples)),
    trainLoss: share(trainLoss, trainExamples),
    secure: plan.secureAggregation.enabled,
    uploadBytes: Math.ceil((length * bits) / 8),
  });
}

/** The next adapter: the strategy's step over the active coordinates, everything else as it was. */
export function nextAdapter(
  spec: RoundSpec,
  options: { parameters: Float32Array; mean: Float32Array; held: Uint8Array | undefined },
): { parameters: Float32Array; held: Uint8Array } {
  const { parameters, mean, held } = options;
  const layout = layoutOf(spec.plan.tensors);
  const rule = ruleOf(spec.plan.server);
  const state = held === undefined ? rule.begin(layout.length) : rule.load(held);
  const next = serverStep({ layout, active: activeLayout(spec), parameters, mean, rule, held: state });
  return { parameters: next.parameters, held: rule.save(next.held) };
}

/**
 * The same from and to files: the parent's adapter, the next one's, and the rule's state. What publishes a
 * step and what checks it later run this.
 */
export function nextFiles(
  spec: RoundSpec,
  options: { parent: Uint8Array; mean: Float32Array; held: Uint8Array | undefined },
): { adapter: Uint8Array; held: Uint8Array } {
  const { tensors } = spec.plan;
  const layout = layoutOf(tensors);
  const before = flatten(layout, readTensors(tensors, options.parent));
  const { parameters, held } = nextAdapter(spec, { ...options, parameters: before });
  return { adapter: writeTensors(tensors, unflatten(layout, parameters)), held };
}

/** A sum over a count; 0 where nothing was counted, since then there is nothing to say. */
function share(sum: number, count: number): number {
  return count > 0 ? sum / count : 0;
}
