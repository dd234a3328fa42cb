import { checkInteger } from "@tutti/foundation/check";
import { Fault } from "@tutti/foundation/fault";
import { clip as clipTo } from "@tutti/update/clip";

/*
 * The one vector of a device under differential privacy: [update…, slots…], of L2 norm c at most.
 *
 * Neighbouring sums differ in one device, whose whole vector is replaced by zeros (zero-out, Kairouz et al.
 * 2021), so c is the sensitivity of all of it, and metrics cost no budget of their own. For that every device
 * weighs the same: a weight would be one more secret to bound and to noise. How many devices are in the sum
 * is public. Adaptive clipping's bit is a slot of bound 1 (Andrew et al. 2021).
 */

export type VectorOptions = {
  /** c: the L2 bound of the whole vector. */
  readonly clip: number;
  /** Upper bound of each metric slot; the lower one is 0. */
  readonly bounds: readonly number[];
  /** The slots' share f of c², in (0, 1); the default is 0.1. Without slots the update has all of it. */
  readonly share?: number;
};

/** The update's own L2 bound c·√(1−f), and the size h = c·√(f/m) that no slot goes beyond. */
export function boundsOf({ clip, bounds, share = 0.1 }: VectorOptions): { update: number; slot: number } {
  if (!(clip > 0 && Number.isFinite(clip)))
    throw new Fault("bad-input", "clip norm", { expected: "a positive number", got: `${clip}` });
  if (bounds.length === 0) return { update: clip, slot: 0 };
  if (!(share > 0 && share < 1))
    throw new Fault("bad-input", "share of the slots", { expected: "above 0 and below 1", got: `${share}` });
  return { update: clip * Math.sqrt(1 - share), slot: clip * Math.sqrt(share / bounds.length) };
}

/**
 * Values in [0, bound], cut to it, as values in [−h, h]: centred, so that the whole range is used.
 * @throws Fault("bad-input") for another count than of bounds, a bound that is none, a value that is not
 * finite.
 */
export function boundedSlots(values: readonly number[], options: VectorOptions): Float32Array {
  const { bounds } = options;
  const { slot } = boundsOf(options);
  if (values.length !== bounds.length)
    throw new Fault("bad-input", "slots", { expected: `${bounds.length}`, got: `${values.length}` });
  return Float32Array.from(values, (value, at) => {
    const bound = bounds[at]!;
    if (!(bound > 0 && Number.isFinite(bound)))
      throw new Fault("bad-input", `bound of slot ${at}`, { expected: "a positive number", got: `${bound}` });
    if (!Number.isFinite(value))
      throw new Fault("bad-input", `slot ${at}`, { expected: "a finite number", got: `${value}` });
    return (2 * (Math.min(bound, Math.max(0, value)) / bound) - 1) * slot;
  });
}

/** The device's vector: the update, cut to its share of the norm, then the slots. */
export function joinVector(
  update: Float32Array,
  slots: readonly number[],
  options: VectorOptions,
): Float32Array {
  const tail = boundedSlots(slots, options);
  const whole = new Float32Array(update.length + tail.length);
  whole.set(clipTo(update, boundsOf(options).update));
  whole.set(tail, update.length);
  return whole;
}

/**
 * The mean update and the sum of each slot, from a sum of `devices` vectors. Noise of mean zero stays noise
 * of mean zero, so both are unbiased; a sum may lie outside what honest slots add up to.
 */
export function splitVector(
  sum: Float32Array,
  devices: number,
  options: VectorOptions,
): { readonly mean: Float32Array; readonly slots: number[] } {
  checkInteger("devices in the sum", devices, [1, 2 ** 31]);
  const { bounds } = options;
  const length = sum.length - bounds.length;
  if (length < 0)
    throw new Fault("bad-input", "sum", { expected: `${bounds.length} slots`, got: `${sum.length} values` });
  const { slot } = boundsOf(options);
  const mean = sum.subarray(0, length).map((value) => value / devices);
  const slots = bounds.map((bound, at) => ((sum[length + at]! / slot + devices) / 2) * bound);
  return { mean, slots };
}
