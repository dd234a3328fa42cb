import { assert } from "@tutti/foundation/check";
import { sizeOf } from "../ir.ts";
import type { Site } from "../site.ts";
import { broadcast, demandSize, same } from "./rule.ts";

// The axis of a softmax is not checked here: before version 13 it may name the rank itself.
export const Softmax = same;
export const LogSoftmax = same;
// Scale and bias are left to evaluate and the engines: their shapes changed between versions
// (GroupNormalization took one per group until version 21) and never change the output's.
export const GroupNormalization = same;
export const Hardmax = same;
export const LpNormalization = same;
export const LRN = same;
export const MeanVarianceNormalization = same;

/** The normalised tensor; onnxruntime's form of it also gives the inverse root over the normalised axes. */
export function RMSNormalization(at: Site) {
  return [at.static(0), LayerNormalization(at)[1]] as const;
}
export const SimplifiedLayerNormalization = RMSNormalization;

/** Outputs: the normalised tensor, then mean and inverse standard deviation over the normalised axes. */
export function LayerNormalization(at: Site) {
  for (const index of [1, 2]) {
    if (!at.has(index) || `${broadcast(at, [at.shape(0), at.shape(index)])}` === `${at.shape(0)}`) continue;
    throw at.fault("bad-input", `input ${index}`, {
      expected: `one that broadcasts to [${at.shape(0)}]`,
      got: `[${at.shape(index)}]`,
    });
  }
  const shape = at.shape(0);
  const axis = at.axis(at.int("axis", -1), shape.length);
  const statistic = { dtype: at.dtype(0), shape: shape.map((size, i) => (i < axis ? size : 1)) };
  assert(statistic.shape.length === shape.length, "statistics keep the rank");
  return [at.static(0), statistic, statistic] as const;
}

/** Scale and bias have one number per channel. */
export function InstanceNormalization(at: Site) {
  for (const index of [1, 2])
    demandSize(at, `elements of input ${index}`, {
      expected: at.shape(0)[1] ?? 1,
      got: sizeOf(at.shape(index)),
    });
  return same(at);
}

/** Inference only: training mode also returns running statistics, which nobody here reads. */
export function BatchNormalization(at: Site) {
  if (at.int("training_mode", 0) !== 0)
    throw at.fault("unsupported", "attribute training_mode", { expected: "0", got: "1" });
  const [, channels = 1, ...places] = at.shape(0);
  // Before version 9 statistics could be of each place (spatial = 0).
  const own = at.int("spatial", 1) === 0 ? channels * sizeOf(places) : channels;
  for (const index of [1, 2, 3, 4]) {
    demandSize(at, `elements of input ${index}`, { expected: own, got: sizeOf(at.shape(index)) });
  }
  return [at.static(0)];
}
