import { METRICS } from "@tutti/plan/metrics";
import { nextClip } from "@tutti/privacy/adaptive-clip";
import { recover } from "@tutti/privacy/distributed";
import type { Grid } from "@tutti/privacy/grid";
import { splitVector } from "@tutti/privacy/vector";
import { Task_Kind } from "@tutti/wire/round";
import {
  clipOf,
  gridOfSum,
  type Privacy,
  rotationOf,
  type SumSize,
  slotOptions,
  updateBound,
  vectorLength,
} from "./privacy.ts";
import type { RoundSpec } from "./spec.ts";

type Work = Pick<RoundSpec, "plan" | "task">;

/** Smallest clip norm that adapting may come to, as a share of the plan's. */
const LEAST_CLIP = 1e-3;

/** What a noised sum says. */
export type Noised = {
  readonly mean: Float32Array;
  /** Sums over devices' rows, in METRICS' order; noise may take them below 0, which is cut. */
  readonly metrics: readonly number[];
  /** An honest mean is longer with probability below 10^−5. */
  readonly longest: number;
  /** The next round's clip norm, where it adapts. */
  readonly clipNorm: number;
};

/** Reads a noised sum: the mean update, the metrics' sums, and where the norm adapts its next value. */
export function readNoisedSum(
  work: Work,
  privacy: Privacy,
  { sum, size, survivors }: { sum: Uint32Array; size: SumSize; survivors: number },
): Noised {
  const grid = gridOfSum(work, privacy, size);
  const whole = recover(sum, grid, { rotation: rotationOf(work.task), length: vectorLength(work) });
  const { mean, slots } = splitVector(whole, survivors, slotOptions(work));
  const metrics = slots.slice(0, METRICS.length).map((value) => Math.max(0, value));
  return {
    mean,
    metrics,
    longest: updateBound(work) + noiseNorm(grid, survivors, mean.length),
    clipNorm: adapted(work, privacy, (slots[METRICS.length] ?? 0) / survivors),
  };
}

/** The length of the mean's noise that few draws exceed, of m coordinates (Laurent and Massart 2000). */
function noiseNorm(grid: Grid, survivors: number, length: number): number {
  const sigma = Math.hypot(grid.localSigma * Math.sqrt(survivors), grid.centralSigma);
  // A step of rounding on each coordinate of each device is noise too.
  const steps = Math.hypot(sigma, Math.sqrt(survivors));
  return ((steps / grid.scale) * (Math.sqrt(length) + TAIL)) / survivors;
}

/** P[χ > √m + x] ≤ e^(−x²/2): about 4·10^−6. */
const TAIL = 5;

/** The norm after a round: only training says whether updates were short. */
function adapted({ plan, task }: Work, { adaptiveClip }: Privacy, fraction: number): number {
  const clip = clipOf(plan, task);
  if (!adaptiveClip) return 0;
  if (task.kind !== Task_Kind.TRAIN) return clip;
  const most = plan.update.clipNorm;
  return nextClip(clip, fraction, { ...adaptiveClip, least: most * LEAST_CLIP, most });
}
