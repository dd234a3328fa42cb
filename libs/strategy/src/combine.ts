import { assert, unreachable } from "@tutti/foundation/check";
import { Fault } from "@tutti/foundation/fault";
import { l2Norm } from "@tutti/update/clip";
import { geometricMedian } from "./geometric-median.ts";

/**
 * How the means of several cohorts become one. A rule other than "mean" gives each cohort one vote, since its
 * weight is what its devices say of themselves, and holds while fewer than half of the cohorts (with
 * "trimmed-mean", fewer than `trim` of them) are arbitrary. `trim` is cut off at each end, in [0, 0.5).
 */
export type Combine =
  | "mean"
  | "median"
  | "geometric-median"
  | { readonly name: "trimmed-mean"; readonly trim: number };

/** A cohort's mean update, and the examples that are in it. */
export type CohortMean = { readonly mean: Float32Array; readonly weight: number };

/** One mean of the length of each; the order of the cohorts does not matter. One cohort's is its own mean. */
export function combine(means: readonly CohortMean[], how: Combine): Float32Array {
  const [first, ...others] = means;
  assert(first !== undefined, "combine: at least one cohort");
  for (const { mean } of others) assert(mean.length === first.mean.length, "combine: means of one length");
  if (others.length === 0) return first.mean;
  const vectors = means.map(({ mean }) => mean);
  if (typeof how === "object") return trimmedMean(vectors, how.trim);
  switch (how) {
    case "mean":
      return weightedMean(means);
    case "median":
      return median(vectors);
    case "geometric-median":
      return geometricMedian(vectors, median(vectors));
    default:
      return unreachable(how);
  }
}

/** Σwx / Σw, as if all devices had been in one cohort: FedAvg (McMahan et al. 2017). */
function weightedMean(means: readonly CohortMean[]): Float32Array {
  const total = means.reduce((sum, { weight }) => sum + weight, 0);
  assert(total > 0, "combine: some weight");
  return (means[0] as CohortMean).mean.map((_, i) => {
    let sum = 0;
    for (const { mean, weight } of means) sum += weight * mean[i]!;
    return sum / total;
  });
}

/** Coordinate-wise median (Yin et al. 2018, Definition 1); of an even number, the middle two's mean. */
function median(vectors: readonly Float32Array[]): Float32Array {
  const middle = (vectors.length - 1) / 2;
  return ranked(vectors, [Math.floor(middle), Math.ceil(middle)]);
}

/** Coordinate-wise trimmed mean (Yin et al. 2018, Definition 2): without the floor(trim·m) at each end. */
function trimmedMean(vectors: readonly Float32Array[], trim: number): Float32Array {
  assert(trim >= 0 && trim < 0.5, "combine: trim in [0, 0.5)");
  const cut = Math.floor(trim * vectors.length + 1e-9);
  return ranked(vectors, [cut, vectors.length - 1 - cut]);
}

/** For each coordinate the mean of the values from rank `from` to rank `to`, both in. */
function ranked(vectors: readonly Float32Array[], [from, to]: [number, number]): Float32Array {
  const values = new Float32Array(vectors.length);
  return (vectors[0] as Float32Array).map((_, i) => {
    // By insertion: there are at most 64 cohorts, and a sort of its own for each coordinate is slower.
    for (let at = 0; at < vectors.length; at++) {
      const value = vectors[at]![i]!;
      let below = at;
      for (; below > 0 && values[below - 1]! > value; below--) values[below] = values[below - 1]!;
      values[below] = value;
    }
    let sum = 0;
    for (let rank = from; rank <= to; rank++) sum += values[rank]!;
    return sum / (to - from + 1);
  });
}

/**
 * The mean itself. Every device clips its update to L2 norm `clipNorm`, so a weighted mean of updates is not
 * longer, but for `slack`, what rounding may add: a longer one has a device in it that did not clip.
 * @throws Fault("refused") for a longer one.
 */
export function checkCohortNorm(
  mean: Float32Array,
  { clipNorm, slack }: { clipNorm: number; slack: number },
): Float32Array {
  const norm = l2Norm(mean);
  // float32 holds each coordinate to one part in 2^24.
  if (norm <= (clipNorm + slack) * (1 + 2 ** -23)) return mean;
  throw new Fault("refused", "mean of a cohort", {
    expected: `L2 norm of at most ${clipNorm} and ${slack.toPrecision(2)} for rounding`,
    got: norm.toPrecision(4),
  });
}
