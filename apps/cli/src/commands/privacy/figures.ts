import { Fault } from "@tutti/foundation/fault";
import { epsilonOf, epsilonOfRho, noiseFor, rdpOf } from "@tutti/privacy/accountant";
import {
  type Grid,
  type GridOptions,
  gridFor,
  gridOf,
  MAX_BITS,
  type Mode,
  realised,
} from "@tutti/privacy/grid";

/** What a run wants: ε at δ after so many rounds, of sums over so many devices. */
export type Wish = {
  readonly epsilon: number;
  readonly delta: number;
  readonly rounds: number;
  readonly cohort: number;
  /** Of the cohort, how many may work with the coordinator. */
  readonly corrupt: number;
  readonly bits: number;
  readonly length: number;
  readonly clip: number;
  readonly sampling: number;
  readonly mode: Mode;
};

/** Points of the curve that are kept: what a plot can show. */
const MOST_POINTS = 200;
/** A modulus that costs less of ε than this is as good as none. */
const FREE = 0.001;

export type Figures = ReturnType<typeof figuresOf>;

/** Everything that `tutti privacy plan` says. @throws Fault("bad-input") where no noise or grid can do it. */
export function figuresOf(wish: Wish) {
  const { cohort, corrupt, clip, length, delta, rounds } = wish;
  // The quorum of a secure sum, more than (n + n_C)/2: no smaller one is ever revealed.
  const survivors = Math.floor((cohort + corrupt) / 2) + 1;
  const honest = survivors - corrupt;
  const wanted = noiseFor({ ...wish, steps: rounds, noise: "discrete" });
  const options = { ...wish, devices: cohort, honest, dimension: length, noiseMultiplier: wanted };
  const grid = gridFor(options);
  const worst = realised(grid, survivors, corrupt);
  const curve = curveOf(wish, worst.noiseMultiplier);
  const all = curveOf(wish, realised(grid, cohort, corrupt).noiseMultiplier);
  const rms = errorOf(grid, cohort);
  return {
    noiseMultiplier: grid.noiseMultiplier,
    withoutRounding: wanted,
    realisedNoiseMultiplier: worst.noiseMultiplier,
    survivors,
    honest,
    corrupt,
    localSigma: grid.localSigma / grid.scale,
    centralSigma: grid.centralSigma / grid.scale,
    localSigmaSteps: grid.localSigma,
    scale: grid.scale,
    words: grid.dimension,
    uploadBytes: Math.ceil((grid.dimension * grid.bits) / 8),
    epsilon: curve.at(-1)!.epsilon,
    epsilonIfAllStay: all.at(-1)!.epsilon,
    // A device cannot check that it was sampled: its own count is of the rounds it is in, each whole.
    ledger: {
      rhoPerRound: worst.rho,
      rounds: Math.ceil(rounds * wish.sampling),
      epsilon: epsilonOfRho(worst.rho * Math.ceil(rounds * wish.sampling), delta),
    },
    error: { rms, perClip: rms / clip, wholeVectorPerClip: (rms * Math.sqrt(length)) / clip },
    bits: { free: bitsWithin(options, wish, FREE), onePercent: bitsWithin(options, wish, 0.01) },
    curve,
  };
}

/** ε after each round, or after some of many. */
function curveOf({ rounds, delta, sampling }: Wish, noiseMultiplier: number) {
  const once = rdpOf({ noiseMultiplier, sampling, steps: 1, noise: "discrete" });
  const points = Math.min(rounds, MOST_POINTS);
  return Array.from({ length: points }, (_, at) => {
    const round = Math.round(((at + 1) * rounds) / points);
    const { epsilon } = epsilonOf(
      once.map((rdp) => rdp * round),
      delta,
    );
    return { round, epsilon };
  });
}

/**
 * Root of the mean square by which a coordinate of the mean is off when the whole cohort stays: the noise,
 * and a quarter of a step for each rounding, which is the most it can be.
 */
function errorOf(grid: Grid, devices: number): number {
  const noise = devices * grid.localSigma ** 2 + grid.centralSigma ** 2;
  return Math.sqrt(noise + devices / 4) / grid.scale / devices;
}

/**
 * The smallest modulus that makes ε at most this much larger, in proportion, than no rounding at all would.
 */
function bitsWithin(options: GridOptions, { epsilon, delta, rounds, sampling }: Wish, more: number) {
  for (let bits = 4; bits <= MAX_BITS; bits++) {
    const grid = gridIfAny({ ...options, bits });
    if (!grid) continue;
    const { noiseMultiplier } = realised(grid, options.honest, 0);
    const rdp = rdpOf({ noiseMultiplier, sampling, steps: rounds, noise: "discrete" });
    if (epsilonOf(rdp, delta).epsilon <= epsilon * (1 + more)) return bits;
  }
  return null;
}

function gridIfAny(options: GridOptions): Grid | undefined {
  try {
    return gridOf(options);
  } catch (error) {
    if (error instanceof Fault) return undefined;
    throw error;
  }
}
