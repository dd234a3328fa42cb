import { assert } from "@tutti/foundation/check";
import { sizeOf } from "../ir.ts";
import type { Site } from "../site.ts";
import { distinctAxes } from "./reduce.ts";
import { demandFits, demandRank, demandShape, demandSize, same } from "./rule.ts";

/** Before version 13 the axis may name the rank itself: everything then is one row. */
export function Softmax(at: Site) {
  const [axis, rank] = [at.int("axis", at.opset < 13 ? 1 : -1), at.shape(0).length];
  if (at.opset >= 13 || axis !== rank) at.axis(axis, rank);
  return same(at);
}
export const LogSoftmax = Softmax;
export const Hardmax = Softmax;

export function LpNormalization(at: Site) {
  const p = at.int("p", 2);
  if (p === 1 || p === 2) return same(at);
  throw at.fault("bad-input", "attribute p", { expected: "1 or 2", got: `${p}` });
}

/** Each is a sum of its own where LRN is said in simpler operators. */
const MOST_NEIGHBOURS = 1024;

/** Sums over neighbouring channels (LRN, since version 1). */
export function LRN(at: Site) {
  demandRank(at, 0, 3, Number.POSITIVE_INFINITY);
  const span = at.int("size");
  if (span < 1 || span > MOST_NEIGHBOURS)
    throw at.fault("bad-input", "attribute size", { expected: `1 to ${MOST_NEIGHBOURS}`, got: `${span}` });
  return same(at);
}

/** All axes but the channels', unless told (MeanVarianceNormalization, since version 9). */
export function MeanVarianceNormalization(at: Site) {
  distinctAxes(at, at.ints("axes", [0, 2, 3]), at.shape(0).length);
  return same(at);
}

/** Scale and bias have one number per channel; per group, until version 21. */
export function GroupNormalization(at: Site) {
  demandRank(at, 0, 3, Number.POSITIVE_INFINITY);
  const [channels, groups] = [at.shape(0)[1]!, at.int("num_groups")];
  if (groups < 1 || channels % groups !== 0)
    throw at.fault("bad-input", "attribute num_groups", {
      expected: `a part of ${channels}`,
      got: `${groups}`,
    });
  for (const index of [1, 2]) {
    if (at.opset < 21 && sizeOf(at.shape(index)) === groups) continue;
    demandShape(at, index, [channels]);
  }
  return same(at);
}

/** The normalised tensor alone (RMSNormalization, since version 23). */
export function RMSNormalization(at: Site) {
  return LayerNormalization(at).slice(0, 1);
}

/** onnxruntime's form of it also gives the inverse root over the normalised axes. */
export function SimplifiedLayerNormalization(at: Site) {
  return LayerNormalization(at).slice(0, 2);
}

/** Outputs: the normalised tensor, then mean and inverse standard deviation over the normalised axes. */
export function LayerNormalization(at: Site) {
  for (const index of [1, 2]) demandFits(at, index, at.shape(0));
  const shape = at.shape(0);
  const axis = at.axis(at.int("axis", -1), shape.length);
  const statistic = { dtype: at.dtype(0), shape: shape.map((size, i) => (i < axis ? size : 1)) };
  assert(statistic.shape.length === shape.length, "statistics keep the rank");
  return [at.static(0), statistic, statistic] as const;
}

/** Scale and bias have one number per channel. */
export function InstanceNormalization(at: Site) {
  demandRank(at, 0, 3, Number.POSITIVE_INFINITY);
  for (const index of [1, 2]) demandShape(at, index, [at.shape(0)[1]!]);
  return same(at);
}

/** Inference only: training mode also returns running statistics, which nobody here reads. */
export function BatchNormalization(at: Site) {
  if (at.int("training_mode", 0) !== 0)
    throw at.fault("unsupported", "attribute training_mode", { expected: "0", got: "1" });
  demandRank(at, 0, 2, Number.POSITIVE_INFINITY);
  const [, channels = 1, ...places] = at.shape(0);
  // Before version 9 statistics could be of each place (spatial = 0).
  const own = at.int("spatial", 1) === 0 ? channels * sizeOf(places) : channels;
  for (const index of [1, 2, 3, 4]) {
    demandSize(at, `elements of input ${index}`, { expected: own, got: sizeOf(at.shape(index)) });
    if (own === channels) demandShape(at, index, [channels]);
  }
  return [at.static(0)];
}
