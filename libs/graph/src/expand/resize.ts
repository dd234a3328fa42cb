import { type Resampling, resizings } from "../infer/resize.ts";
import { sizeOf } from "../ir.ts";
import { type Ops, range } from "../ops.ts";
import type { Site } from "../site.ts";
import { tensorOf } from "../tensor.ts";
import { coordinatesOf, nearestOf, samplingOf, weightsOf } from "./resample.ts";
import { single } from "./rule.ts";

/**
 * Every mode works on one axis after another (Resize, since version 10): nearest picks positions, linear and
 * cubic are products with a constant matrix of weights, whose transpose is the gradient. The axis that
 * shrinks most goes first, so that the others have less to do. Axes of scale 1 stay, also where a mode
 * would shift them: onnxruntime leaves batch and channels alone.
 */
export const Resize = single((at, ops) => {
  const shape = resizings(at).reduce((sizes, { axis, to }) => sizes.with(axis, to), [...at.shape(0)]);
  // Beside an axis of no length others may be too long to be walked along.
  if (sizeOf(shape) === 0) return ops.build.constant(tensorOf(at.dtype(0), shape, []));
  const crops = at.string("coordinate_transformation_mode", "") === "tf_crop_and_resize";
  const changed = resizings(at).filter(({ from, to, scale }) => crops || from !== to || scale !== 1);
  const axes = changed.toSorted((a, b) => a.to / a.from - b.to / b.from);
  const coordinates = new Map(axes.map((axis) => [axis, placed(at, axis)]));
  const resampled = axes.reduce(
    (x, axis) => along(at, ops, { x, axis, places: coordinates.get(axis)! }),
    at.input(0),
  );
  if (!crops) return resampled;
  return axes.reduce(
    (x, axis) => extrapolated(at, ops, { x, axis, places: coordinates.get(axis)! }),
    resampled,
  );
});

/** Resize's predecessor (Upsample, versions 7 and 9). */
export const Upsample = Resize;

type Step = { readonly x: string; readonly axis: Resampling; readonly places: readonly number[] };

function placed(at: Site, axis: Resampling): readonly number[] {
  const { coordinates } = samplingOf(at);
  const found = coordinatesOf(coordinates, axis);
  if (found) return found;
  throw at.fault("unsupported", "attribute coordinate_transformation_mode", { got: coordinates });
}

function along(at: Site, ops: Ops, { x, axis, places }: Step): string {
  const sampling = samplingOf(at);
  if (sampling.mode === "nearest") {
    const picked = nearestOf(sampling.nearest, axis, places);
    if (!picked) throw at.fault("unsupported", "attribute nearest_mode", { got: sampling.nearest });
    if (picked.every((position, i) => position === i) && axis.from === axis.to) return x;
    return ops.op("Gather", [x, ops.build.ints(picked)], { axis: axis.axis });
  }
  if (sampling.mode !== "linear" && sampling.mode !== "cubic")
    throw at.fault("unsupported", "attribute mode", {
      expected: "nearest, linear or cubic",
      got: sampling.mode,
    });
  const dtype = at.dtype(0);
  if (dtype !== "float32" && dtype !== "float64")
    throw at.fault("unsupported", `mode ${sampling.mode}`, { expected: "float32", got: dtype });
  const { from, to } = axis;
  const weights = weightsOf(sampling, axis, places);
  if (from === to && weights.every((w, i) => w === (i % (to + 1) === 0 ? 1 : 0))) return x;
  return product(ops, x, {
    axis: axis.axis,
    matrix: ops.build.constant(tensorOf(dtype, [from, to], weights)),
  });
}

/** x times a matrix along one axis, which goes last meanwhile: plain products are what engines do best. */
function product(ops: Ops, x: string, { axis, matrix }: { axis: number; matrix: string }): string {
  const shape = ops.shape(x);
  // A product is one of matrices; a vector goes as a row.
  if (shape.length === 1) return ops.reshape(ops.matmul(ops.reshape(x, [1, ...shape]), matrix), [-1]);
  const last = shape.length - 1;
  const order = range(last + 1).map((i) => (i === axis ? last : i === last ? axis : i));
  return ops.transpose(ops.matmul(ops.transpose(x, order), matrix), order);
}

/** Outputs from outside the input get `extrapolation_value`, whatever the mode (tf_crop_and_resize). */
function extrapolated(at: Site, ops: Ops, { x, axis, places }: Step): string {
  const outside = places.map((place) => place < 0 || place > axis.from - 1);
  if (!outside.includes(true)) return x;
  const shape = ops.shape(x).map((_, i) => (i === axis.axis ? axis.to : 1));
  const mask = ops.build.constant(tensorOf("bool", shape, outside.map(Number)));
  const value = tensorOf(at.dtype(0), [], [at.float("extrapolation_value", 0)]);
  return ops.where(mask, ops.build.constant(value), x);
}
