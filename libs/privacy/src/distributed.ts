import { assert } from "@tutti/foundation/check";
import { Fault } from "@tutti/foundation/fault";
import type { SecretRandom, SeededRandom } from "@tutti/foundation/random";
import { roundWords } from "@tutti/kernels/quantise";
import { clip } from "@tutti/update/clip";
import { discreteGaussian } from "./discrete-gaussian.ts";
import type { Grid } from "./grid.ts";
import { rotate, rotateBack } from "./rotate.ts";

export { type Grid, type GridOptions, gridFor, gridOf, type Mode, realised } from "./grid.ts";

/*
 * The distributed discrete Gaussian (Kairouz, Liu and Steinke 2021, Algorithm 1): real vectors of bounded
 * length become words whose sum mod 2^b is the sum of the vectors plus Gaussian noise that no single device
 * knows.
 */

export type PrivatiseOptions = {
  /** Public, and the same for all devices of a sum. */
  readonly rotation: Uint8Array | string;
  /** Rounds. The guarantee does not rest on it: whatever it draws, the integer vector is no longer than Δ. */
  readonly rounding: SeededRandom;
  /** The noise, which the guarantee is. */
  readonly noise: SecretRandom;
};

/**
 * Words (d of them, mod 2^bits) of one device's vector v (m ≤ d coordinates): cut to length c, rotated,
 * scaled, rounded, and noised with the grid's local noise.
 * @throws Fault("bad-input") for a value that is not finite, or more coordinates than the grid has.
 */
export function privatise(
  v: Float32Array,
  grid: Grid,
  { rotation, rounding, noise }: PrivatiseOptions,
): Uint32Array {
  if (v.length > grid.dimension) {
    const expected = `at most ${grid.dimension} coordinates`;
    throw new Fault("bad-input", "vector", { expected, got: `${v.length}` });
  }
  const rotated = rotate(clip(v, grid.clip), grid.dimension, rotation);
  const rounded = roundWithin(rotated, grid, rounding);
  return words(addNoise(rounded, grid.localSigma, noise), grid);
}

/** Each try succeeds with probability 1 − e^−½ or more: all of them fail once in 10^21 vectors. */
const MAX_TRIES = 100;
/**
 * Sums of up to 2^26 squares in float64 are off by less than one part in 2^26: the bound is kept in spite of
 * it.
 */
const KEPT = 1 - 2 ** -26;

/**
 * Every coordinate up or down at random, without bias, all of it again until the whole is no longer than Δ.
 * The grid is so that no coordinate leaves int32 (`gridOf`).
 */
function roundWithin(rotated: Float32Array, grid: Grid, random: SeededRandom): Int32Array {
  const most = grid.sensitivity ** 2 * KEPT;
  const limit = (2 ** 31 - 2) / grid.scale;
  for (let tries = 0; tries < MAX_TRIES; tries++) {
    const key = Uint8Array.from({ length: 32 }, () => random.below(256));
    const steps = new Int32Array(roundWords(rotated, { factor: grid.scale, limit, bits: 32, key }).buffer);
    let squares = 0;
    for (const step of steps) squares += step * step;
    if (squares <= most) return steps;
  }
  throw new Fault("internal", "rounding", {
    expected: `a vector of length ${grid.sensitivity} or less in ${MAX_TRIES} tries`,
    got: "none",
  });
}

/** Adds independent discrete Gaussians of σ steps, in place and mod 2^32; none where σ is 0. */
function addNoise(steps: Int32Array, sigma: number, random: SecretRandom): Int32Array {
  if (sigma === 0) return steps;
  const noise = discreteGaussian(steps.length, sigma ** 2, random);
  for (let i = 0; i < steps.length; i++) steps[i] = steps[i]! + noise[i]!;
  noise.fill(0);
  return steps;
}

/** Steps as words mod 2^bits; writes to its argument. */
function words(steps: Int32Array, { bits }: Grid): Uint32Array {
  const drop = 32 - bits;
  const out = new Uint32Array(steps.buffer);
  for (let i = 0; i < out.length; i++) out[i] = (steps[i]! << drop) >>> drop;
  return out;
}

/** A sum's words as signed numbers of steps; bits above the grid's are ignored. */
function stepsOf(sum: Uint32Array, { bits, dimension }: Grid): Int32Array {
  if (sum.length !== dimension) {
    throw new Fault("bad-message", "sum", { expected: `${dimension} words`, got: `${sum.length}` });
  }
  const drop = 32 - bits;
  const steps = new Int32Array(sum.length);
  for (let i = 0; i < steps.length; i++) steps[i] = (sum[i]! << drop) >> drop;
  return steps;
}

/**
 * The sum of the devices' vectors, with its noise: the first `length` coordinates of it.
 * @throws Fault("bad-message") for a sum of another length than the grid's.
 */
export function recover(
  sum: Uint32Array,
  grid: Grid,
  { rotation, length }: { readonly rotation: Uint8Array | string; readonly length: number },
): Float32Array {
  assert(length <= grid.dimension, "no more coordinates than words");
  const steps = stepsOf(sum, grid);
  const rotated = new Float32Array(steps.length);
  for (let i = 0; i < rotated.length; i++) rotated[i] = steps[i]! / grid.scale;
  return rotateBack(rotated, rotation).slice(0, length);
}

/** The sum with the aggregator's noise, in mode "central": drawn once per sum, before anyone sees it. */
export function centralNoise(sum: Uint32Array, grid: Grid, noise: SecretRandom): Uint32Array {
  assert(grid.mode === "central", "in other modes the devices have added the noise");
  return words(addNoise(stepsOf(sum, grid), grid.centralSigma, noise), grid);
}
