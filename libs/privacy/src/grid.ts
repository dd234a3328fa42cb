import { assert, checkInteger } from "@tutti/foundation/check";
import { Fault } from "@tutti/foundation/fault";
import { MAX_LENGTH } from "@tutti/update/layout";
import { MAX_DEVICES } from "@tutti/update/quantise";
import { rhoOf } from "./accountant.ts";
import { MAX_SIGMA } from "./discrete-gaussian.ts";

/**
 * Who adds the noise. "distributed": every device a share, so that the honest ones reach the whole; "local":
 * every device the whole; "central": whoever adds up, who has to be trusted to.
 */
export type Mode = "distributed" | "local" | "central";

export type GridOptions = {
  /** Width b of a word, 4..MAX_BITS. */
  readonly bits: number;
  /** Most devices n in one sum. */
  readonly devices: number;
  /** Honest devices that are in every sum that can be revealed: what the noise of "distributed" counts on. */
  readonly honest: number;
  /** Coordinates m of a device's vector. */
  readonly dimension: number;
  /** L2 bound c of a device's vector. */
  readonly clip: number;
  /** z: the sum's noise has standard deviation z·c at least. */
  readonly noiseMultiplier: number;
  readonly mode: Mode;
};

/** How a real vector becomes words, and what the words guarantee. A step of the integer grid is 1/scale. */
export type Grid = Omit<GridOptions, "dimension"> & {
  /** Words d of a device: the power of two at or above m. */
  readonly dimension: number;
  /** s: steps per 1. */
  readonly scale: number;
  /** Standard deviation of one device's noise, in steps; 0 for "central". */
  readonly localSigma: number;
  /** Standard deviation of what the aggregator adds, in steps; 0 but for "central". */
  readonly centralSigma: number;
  /** Δ: no device's integer vector is longer, in steps. */
  readonly sensitivity: number;
};

/**
 * So many standard deviations of a sum's coordinate fit the modulus on each side (Kairouz et al. 2021, k).
 */
const FIT = 4;
/** β of conditional rounding: each draw is short enough with probability 1 − β or more. */
const REDRAW = Math.exp(-0.5);
/** The least local noise, in steps: from here on the sum of discrete Gaussians is one (`sumGap`). */
export const MIN_LOCAL_SIGMA = 2;
/**
 * Words beyond this would only make rounding finer than it needs to be, and noise wider than the sampler's.
 */
export const MAX_BITS = 28;

/** The longest a vector may be, in steps: with rounding and noise on top it stays an int32. */
const MAX_STEPS = 2 ** 30;

assert(2 ** MAX_BITS / (2 * FIT) <= MAX_SIGMA, "all noise that fits a word can be drawn");
assert(sumGap(MIN_LOCAL_SIGMA, MAX_DEVICES) * MAX_LENGTH < 1e-7, "τ·d is nothing beside any ρ");

/**
 * τ: how far the sum of n discrete Gaussians of σ steps is from one discrete Gaussian (Kairouz et al. 2021,
 * Theorem 1).
 */
export function sumGap(sigma: number, devices: number): number {
  let sum = 0;
  for (let k = 1; k < devices; k++) sum += Math.exp((-2 * Math.PI ** 2 * sigma ** 2 * k) / (k + 1));
  return 10 * sum;
}

/**
 * The grid for a sum of up to n vectors: the finest whose sums stay within the modulus but for four standard
 * deviations: a coordinate of the rotated sum has variance c²n²/d at most, and the noise's on top (Kairouz et
 * al. 2021).
 * @throws Fault("bad-input") for options out of range, and where "distributed" noise would be below
 * MIN_LOCAL_SIGMA steps: it says how many bits are enough.
 */
export function gridOf(options: GridOptions): Grid {
  const { bits, devices, clip, noiseMultiplier, mode } = check(options);
  const dimension = 2 ** Math.ceil(Math.log2(options.dimension));
  const whole = noiseMultiplier * clip;
  const local = { distributed: whole / Math.sqrt(options.honest), local: whole, central: 0 }[mode];
  const central = mode === "central" ? whole : 0;
  const spread = (clip * devices) ** 2 / dimension + devices * local ** 2 + central ** 2;
  const scale = scaleOf(bits, devices, spread);
  if (scale * clip > MAX_STEPS) throw tooFine(options);
  const grid = { ...options, dimension, scale, localSigma: scale * local, centralSigma: scale * central };
  if (mode === "distributed" && grid.localSigma < MIN_LOCAL_SIGMA) {
    throw tooCoarse(options, grid.localSigma, (more) => scaleOf(more, devices, spread) * local);
  }
  return { ...grid, sensitivity: sensitivityOf(scale * clip, dimension) };
}

/** Rounds of `gridFor`, each closer by the factor that rounding costs: a usable grid takes a few. */
const MAX_ROUNDS = 60;
/** Noise that has grown so much for the sake of rounding will not do: the grid is too coarse. */
const MAX_GROWTH = 100;

/**
 * The grid whose sums realise at least `noiseMultiplier` (see `realised`): it asks for a little more, since
 * rounding may lengthen vectors. Its own `noiseMultiplier` is what a run has to ask for.
 * @throws Fault("bad-input") as `gridOf` does, and where so few bits cannot realise it with any noise.
 */
export function gridFor(options: GridOptions): Grid {
  const grid = gridIfAny(options);
  if (grid) return grid;
  let enough = options.bits + 1;
  while (enough <= MAX_BITS && !gridIfAny({ ...options, bits: enough })) enough++;
  throw new Fault("bad-input", "bits", {
    expected: `so many that rounding leaves a noise multiplier of ${options.noiseMultiplier.toPrecision(4)}`,
    got: `${options.bits}`,
    todo: enough <= MAX_BITS ? `Use ${enough} bits` : "Use less noise or fewer coordinates",
  });
}

/** Undefined where the noise that is asked for grows without end: more of it makes the grid coarser. */
function gridIfAny(options: GridOptions): Grid | undefined {
  let asked = options.noiseMultiplier;
  for (let step = 0; step < MAX_ROUNDS; step++) {
    const grid = gridOf({ ...options, noiseMultiplier: asked });
    const missing = options.noiseMultiplier / realised(grid, options.honest, 0).noiseMultiplier;
    if (missing <= 1) return grid;
    // A trifle more, so that it ends above and not just below.
    asked *= missing * (1 + 1e-12);
    if (asked > MAX_GROWTH * options.noiseMultiplier) return undefined;
  }
  return undefined;
}

/** `spread` is the variance of a coordinate of the sum, in real units. */
function scaleOf(bits: number, devices: number, spread: number): number {
  return Math.sqrt(2 ** (2 * bits) - devices * FIT ** 2) / (2 * FIT * Math.sqrt(spread));
}

/**
 * Δ of a vector of length `steps` on the grid, rounded until it is no longer than this (Kairouz et al. 2021,
 * conditional rounding).
 */
function sensitivityOf(steps: number, d: number): number {
  const slack = Math.sqrt(2 * Math.log(1 / REDRAW));
  const likely = steps ** 2 + d / 4 + slack * (steps + Math.sqrt(d) / 2);
  return Math.sqrt(Math.min(likely, (steps + Math.sqrt(d)) ** 2));
}

/**
 * What a sum guarantees to each of its honest devices: the noise multiplier that counts, in integer units,
 * and its zero-concentrated ρ. `survivors` devices are in the sum, `corrupt` of them know their own noise. No
 * honest noise at all is a multiplier of 0 and an infinite ρ.
 */
export function realised(
  grid: Grid,
  survivors: number,
  corrupt: number,
): { readonly noiseMultiplier: number; readonly rho: number } {
  const honest = Math.max(0, survivors - corrupt);
  const sigma = {
    distributed: grid.localSigma * Math.sqrt(honest),
    local: grid.localSigma,
    central: grid.centralSigma,
  }[grid.mode];
  const noiseMultiplier = sigma / grid.sensitivity;
  return { noiseMultiplier, rho: noiseMultiplier > 0 ? rhoOf(noiseMultiplier) : Infinity };
}

function check(options: GridOptions): GridOptions {
  checkInteger("bits", options.bits, [4, MAX_BITS]);
  checkInteger("devices", options.devices, [1, MAX_DEVICES]);
  checkInteger("honest devices", options.honest, [1, options.devices]);
  checkInteger("dimension", options.dimension, [1, MAX_LENGTH]);
  for (const [what, value] of [
    ["clip norm", options.clip],
    ["noise multiplier", options.noiseMultiplier],
  ] as const) {
    if (!(value > 0 && Number.isFinite(value)))
      throw new Fault("bad-input", what, { expected: "a positive number", got: `${value}` });
  }
  if (2 ** (2 * options.bits) <= options.devices * FIT ** 2) {
    const expected = `more for ${options.devices} devices`;
    throw new Fault("bad-input", "bits", { expected, got: `${options.bits}`, todo: "Begin with 16" });
  }
  return options;
}

function tooFine({ bits }: GridOptions): Fault {
  return new Fault("bad-input", "bits", {
    expected: `so few that a vector has at most ${MAX_STEPS} steps of the grid`,
    got: `${bits}`,
    todo: "Use fewer bits or more noise",
  });
}

function tooCoarse({ bits }: GridOptions, sigma: number, sigmaAt: (bits: number) => number): Fault {
  let enough = bits + 1;
  while (enough <= MAX_BITS && sigmaAt(enough) < MIN_LOCAL_SIGMA) enough++;
  return new Fault("bad-input", "bits", {
    expected: `so many that a device's noise is at least ${MIN_LOCAL_SIGMA} steps of the grid`,
    got: `${bits}, where it is ${sigma.toPrecision(3)}`,
    todo: enough <= MAX_BITS ? `Use ${enough} bits` : "Use more noise or fewer devices",
  });
}
