import { readTensors, writeTensors } from "@tutti/adapter/formats/safetensors";
import { metricsOf } from "@tutti/plan/metrics";
import { ruleOf } from "@tutti/strategy/rule";
import { serverStep } from "@tutti/strategy/step";
import { flatten, layoutOf, unflatten } from "@tutti/update/layout";
import { dequantise } from "@tutti/update/quantise";
import { type RoundRecord, RoundRecordSchema } from "@tutti/wire/admin";
import { create } from "@tutti/wire/message";
import { activeLayout, type RoundSpec, scaleOf } from "./spec.ts";

/** What a cohort's plain sum says: the mean update over the active layout, and the round's record. */
export type Result = { readonly mean: Float32Array; readonly record: RoundRecord };

/** Reads a plain sum of `devices` quantised vectors, l words in the ring (docs/protocol.md, The vector). */
export function readSum(spec: RoundSpec, sum: Uint32Array, devices: number): Result {
  const scale = scaleOf(spec.plan);
  const length = activeLayout(spec).length;
  const { mean, metrics } = dequantise(sum, { scale, length, devices });
  const { examples, loss, correct, trainExamples, trainLoss } = metricsOf(metrics);
  const record = create(RoundRecordSchema, {
    round: spec.task.round,
    survivors: devices,
    examples,
    loss: share(loss, examples),
    accuracy: share(correct, examples),
    trainLoss: share(trainLoss, trainExamples),
    secure: spec.plan.secureAggregation.enabled,
    uploadBytes: Math.ceil((sum.length * scale.bits) / 8),
  });
  return { mean, record };
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
