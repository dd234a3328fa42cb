import { assert } from "@tutti/foundation/check";
import type { Resampling } from "../infer/resize.ts";
import type { Site } from "../site.ts";

/** What a Resize does along each axis, in words of its attributes (Resize, since version 10). */
export type Sampling = {
  readonly mode: string;
  readonly coordinates: string;
  readonly nearest: string;
  /** Slope of the cubic at distance 1 (Keys 1981). */
  readonly cubicA: number;
  readonly excludeOutside: boolean;
  readonly antialias: boolean;
};

/** Attributes of Resize; those of Upsample and of version 10 are what they later became the default of. */
export function samplingOf(at: Site): Sampling {
  const modern = at.node.op === "Resize" && at.opset >= 11;
  const mode = at.string("mode", "nearest");
  return {
    mode: mode === "bilinear" ? "linear" : mode,
    coordinates: modern ? at.string("coordinate_transformation_mode", "half_pixel") : "asymmetric",
    // Version 10 leaves it open; the standard's cases and onnxruntime round up to shrink, down to grow.
    nearest: modern ? at.string("nearest_mode", "round_prefer_floor") : "by scale",
    cubicA: at.float("cubic_coeff_a", -0.75),
    excludeOutside: at.int("exclude_outside", 0) !== 0,
    antialias: at.int("antialias", 0) !== 0,
  };
}

/** Single precision, as implementations compute coordinates: it decides ties and what lies at the edge. */
const f32 = Math.fround;

/** Where along the input each output lies; undefined for a mode nobody defined. */
export function coordinatesOf(mode: string, axis: Resampling): readonly number[] | undefined {
  const place = placing(mode, axis);
  return place && Array.from({ length: axis.to }, (_, x) => place(x));
}

function placing(mode: string, axis: Resampling): ((x: number) => number) | undefined {
  const { from, to } = axis;
  const scale = f32(axis.scale);
  const halfPixel = (x: number) => f32(f32((x + 0.5) / scale) - 0.5);
  switch (mode) {
    case "half_pixel":
      return halfPixel;
    case "half_pixel_symmetric": {
      // Sizes were rounded down; what that cut off is shared by both ends (since version 19).
      const shift = f32((from / 2) * (1 - f32(to / f32(scale * from))));
      return (x) => f32(shift + (x + 0.5) / scale - 0.5);
    }
    case "pytorch_half_pixel":
      return to > 1 ? halfPixel : () => 0;
    case "align_corners":
      return to > 1 ? (x) => f32(f32(x * (from - 1)) / (to - 1)) : () => 0;
    case "asymmetric":
      return (x) => f32(x / scale);
    case "tf_half_pixel_for_nn":
      return (x) => f32((x + 0.5) / scale);
    case "tf_crop_and_resize":
      return cropping(axis);
    default:
      return undefined;
  }
}

/** From the region's start to its end, both included; a single output is taken from its middle. */
function cropping({ from, to, start, end }: Resampling): (x: number) => number {
  const last = from - 1;
  if (to < 2) return () => f32(0.5 * (start + end) * last);
  return (x) => f32(start * last + (x * (end - start) * last) / (to - 1));
}

/** Input positions for mode `nearest`; undefined for a rounding nobody defined. */
export function nearestOf(
  rounding: string,
  axis: Resampling,
  coordinates: readonly number[],
): readonly number[] | undefined {
  const round = rounder(rounding, axis.scale);
  return round && coordinates.map((x) => Math.min(Math.max(round(x), 0), axis.from - 1));
}

function rounder(rounding: string, scale: number): ((x: number) => number) | undefined {
  switch (rounding) {
    case "round_prefer_floor":
      return (x) => Math.ceil(x - 0.5);
    case "round_prefer_ceil":
      return (x) => Math.floor(x + 0.5);
    case "floor":
      return Math.floor;
    case "ceil":
      return Math.ceil;
    case "by scale":
      return scale < 1 ? Math.ceil : Math.floor;
    default:
      return undefined;
  }
}

/**
 * Interpolation along an axis as a matrix `[from, to]`, row-major: column x holds the weights of output x.
 * Taps beyond an edge count as the edge, or with `excludeOutside` not at all. Against aliasing the filter is
 * stretched when the axis shrinks.
 */
export function weightsOf(
  sampling: Sampling,
  axis: Resampling,
  coordinates: readonly number[],
): Float64Array {
  const { from, to } = axis;
  const reach = sampling.mode === "cubic" ? 2 : 1;
  const squeeze = sampling.antialias ? Math.min(1, axis.scale) : 1;
  const matrix = new Float64Array(from * to);
  for (const [x, centre] of coordinates.entries()) {
    const [first, last] = [Math.floor(centre - reach / squeeze), Math.ceil(centre + reach / squeeze)];
    let total = 0;
    for (let tap = first; tap <= last; tap++) {
      if (sampling.excludeOutside && (tap < 0 || tap >= from)) continue;
      const weight = kernel(sampling, Math.abs(tap - centre) * squeeze);
      matrix[Math.min(Math.max(tap, 0), from - 1) * to + x]! += weight;
      total += weight;
    }
    assert(total > 0, "some tap lies within reach");
    for (let row = 0; row < from; row++) matrix[row * to + x]! /= total;
  }
  return matrix;
}

/** Weight at a distance: a triangle, or the cubic convolution of Keys 1981, equation 15 with a free slope. */
function kernel({ mode, cubicA: a }: Sampling, t: number): number {
  if (mode === "linear") return Math.max(0, 1 - t);
  if (t <= 1) return (a + 2) * t ** 3 - (a + 3) * t ** 2 + 1;
  return t < 2 ? a * t ** 3 - 5 * a * t ** 2 + 8 * a * t - 4 * a : 0;
}
