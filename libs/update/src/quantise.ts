import { assert, checkInteger } from "@tutti/foundation/check";
import { Fault } from "@tutti/foundation/fault";
import type { SeededRandom } from "@tutti/foundation/random";
import { roundWords } from "@tutti/kernels/quantise";
import { checkFinite } from "./clip.ts";
import { MAX_LENGTH } from "./layout.ts";

/*
 * The vector and its arithmetic (docs/protocol.md, The vector).
 *
 * Every word is an integer q in [−B, B], stored in two's complement mod 2^bits. The sum of n ≤ devices such
 * words lies in [−nB, nB], and devices·(2B+1) ≤ 2^bits gives nB < 2^(bits−1): so the sum mod 2^bits, read as
 * a signed number, is the exact sum, and wrap-around cannot happen.
 *
 *   update slot   x = (w/W)·u in [−clip, clip]    q = round(x / clip · B)
 *   other slots   v in [0, bound], centred        q = round(v · density) − B,  bound·density ≤ 2B
 *
 * The weight is rounded before it weighs the update, so what comes out is a true mean, with the weights that
 * were counted. Rounding is stochastic, and exact where the value lies on the grid.
 */

/** What one device adds: its update, its weight (examples), and sums of metrics over its rows. */
export type Vector = {
  readonly update: Float32Array;
  readonly weight: number;
  readonly metrics: readonly number[];
};

/** How vectors become words; every member of a cohort must use the same one. */
export type Scale = {
  /** Width of a word on the wire, 2..32. */
  readonly bits: number;
  /** Most devices in one sum. */
  readonly devices: number;
  /** Bound of one coordinate of the update: beyond ±clip it is cut. */
  readonly clip: number;
  /** Bound W of the weight: above it a device weighs no more. */
  readonly maxWeight: number;
  /** Upper bound of each metric slot; the lower one is 0. */
  readonly metrics: readonly number[];
};

/** A cohort has at most 1,000 devices; more would be more cohorts. */
export const MAX_DEVICES = 1000;

assert(MAX_DEVICES * 3 <= 2 ** 32, "the widest word has a step for the largest cohort");
assert(MAX_DEVICES * 2 * 2 ** 31 < Number.MAX_SAFE_INTEGER, "sums of steps are exact in float64");

/**
 * Words of a quantised vector of `length` coordinates: the update, the weight, one per metric. A round that
 * only evaluates has no coordinates.
 */
export function wordsOf(scale: Scale, length: number): number {
  return checkInteger("vector length", length, [0, MAX_LENGTH]) + 1 + scale.metrics.length;
}

/** Steps B on each side of zero: the largest with devices·(2B+1) ≤ 2^bits. A Fault where that is below 1. */
export function steps(scale: Scale): number {
  const bits = checkInteger("scale.bits", scale.bits, [2, 32]);
  const devices = checkInteger("scale.devices", scale.devices, [1, MAX_DEVICES]);
  checkBound("scale.clip", scale.clip);
  checkBound("scale.maxWeight", scale.maxWeight);
  scale.metrics.forEach((bound, slot) => {
    checkBound(`scale.metrics[${slot}]`, bound);
  });
  const count = Math.floor((Math.floor(2 ** bits / devices) - 1) / 2);
  if (count >= 1) return count;
  throw new Fault("bad-input", "scale.bits", {
    expected: `at least ${Math.ceil(Math.log2(3 * devices))} for ${devices} devices`,
    got: `${bits}`,
  });
}

/**
 * `[weight/W·update…, weight, metrics…]` as words mod 2^bits (shape: wordsOf). Values beyond their range are
 * cut to it; a value that is not finite is a Fault. `random` rounds: same seed, same words.
 */
export function quantise(vector: Vector, scale: Scale, random: SeededRandom): Uint32Array {
  const { update, metrics } = vector;
  const b = steps(scale);
  if (metrics.length !== scale.metrics.length) {
    throw new Fault("bad-input", "metrics", {
      expected: `${scale.metrics.length}`,
      got: `${metrics.length}`,
    });
  }
  checkFinite("update", update);
  const drop = 32 - scale.bits;
  const slot = (what: string, value: number, bound: number) => {
    if (!Number.isFinite(value)) {
      throw new Fault("bad-input", what, { expected: "a finite number", got: `${value}` });
    }
    return round(Math.min(2 * b, cut(value, 0, bound) * density(bound, b)), random);
  };

  const weight = slot("weight", vector.weight, scale.maxWeight);
  const share = Math.min(1, weight / (density(scale.maxWeight, b) * scale.maxWeight));
  const words = new Uint32Array(wordsOf(scale, update.length));
  const key = Uint8Array.from({ length: 32 }, () => random.below(256));
  const { clip, bits } = scale;
  words.set(roundWords(update, { factor: factorOf(clip, share * b), limit: clip, bits, key }));
  const tail = [weight, ...metrics.map((value, at) => slot(`metric ${at}`, value, scale.metrics[at]!))];
  tail.forEach((count, at) => {
    words[update.length + at] = ((count - b) << drop) >>> drop;
  });
  return words;
}

/** A cohort's sum: the weighted mean of its updates, the total weight, the sum of each metric. */
export type Mean = { readonly mean: Float32Array; readonly weight: number; readonly metrics: number[] };

/** What the words are: their scale, the update's coordinates, and how many devices are in the sum. */
export type SumOf = { readonly scale: Scale; readonly length: number; readonly devices: number };

/**
 * The mean Σ(w/W·u)/Σ(w/W) and the sums from words added mod 2^bits or mod 2^32 (higher bits are ignored).
 * Each coordinate of the mean is within clip/B · devices/Σ(w/W) of the exact one: one step when all weigh W.
 * Faults: a length or a value that no sum of so many honest vectors has, or no weight at all.
 */
export function dequantise(sum: Uint32Array, { scale, length, devices }: SumOf): Mean {
  const b = steps(scale);
  checkInteger("devices in the sum", devices, [1, scale.devices]);
  const words = wordsOf(scale, length);
  if (sum.length !== words) {
    throw new Fault("bad-message", "sum", { expected: `${words} words`, got: `${sum.length}` });
  }
  const drop = 32 - scale.bits;
  const read = (at: number) => {
    const value = (sum[at]! << drop) >> drop;
    if (Math.abs(value) <= devices * b) return value;
    throw new Fault("bad-message", `sum, word ${at}`, { expected: `±${devices * b}`, got: `${value}` });
  };

  const slots = [scale.maxWeight, ...scale.metrics].map((bound, at) => {
    return (read(length + at) + devices * b) / density(bound, b);
  });
  const [weight, ...metrics] = slots as [number, ...number[]];
  if (weight === 0) throw new Fault("bad-input", "sum", { expected: "some weight", got: "0 examples" });
  const unit = (scale.clip * scale.maxWeight) / (b * weight);
  const mean = new Float32Array(length);
  for (let at = 0; at < length; at++) mean[at] = read(at) * unit;
  return { mean, weight, metrics };
}

/**
 * How far, in L2 norm, rounding may move the mean of a sum with so much weight from the exact one: each
 * coordinate by less than clip/B · devices/Σ(w/W).
 */
export function roundingNorm({ scale, length, devices }: SumOf, weight: number): number {
  const coordinate = (scale.clip / steps(scale)) * devices * (scale.maxWeight / weight);
  return Math.sqrt(length) * coordinate;
}

/**
 * Steps per one of the grid over [0, bound]: a whole number where the grid is that fine, so counts are exact.
 */
function density(bound: number, b: number): number {
  const perOne = (2 * b) / bound;
  return perOne >= 1 ? Math.floor(perOne) : perOne;
}

/** Steps per one such that float64's clip·factor is no more than `most`: rounding cannot leave [−B, B]. */
function factorOf(clip: number, most: number): number {
  const factor = most / clip;
  return clip * factor <= most ? factor : factor * (1 - Number.EPSILON);
}

/** Up with the probability of the fraction, so the mean of many roundings is the value itself. */
function round(value: number, random: SeededRandom): number {
  const floor = Math.floor(value);
  return floor + (random.uniform() < value - floor ? 1 : 0);
}

function cut(value: number, low: number, high: number): number {
  return Math.min(high, Math.max(low, value));
}

function checkBound(what: string, bound: number): void {
  if (bound > 0 && Number.isFinite(bound)) return;
  throw new Fault("bad-input", what, { expected: "a positive number", got: `${bound}` });
}
