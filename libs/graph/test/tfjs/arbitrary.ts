import fc from "fast-check";
import { sizeOf, type Tensor } from "../../src/ir.ts";
import { runs } from "../runs.ts";
import { agrees, bool, type Case, f32, i32, i64 } from "./harness.ts";

export const dim = fc.integer({ min: 1, max: 4 });
export const shapeOf = (minLength: number, maxLength: number) => fc.array(dim, { minLength, maxLength });
export const flag = fc.integer({ min: 0, max: 1 });

/** Ordinary floats: none so small that a backend may take it for zero. */
export const floats = (
  shape: readonly number[],
  bounds: { min: number; max: number } = { min: -3, max: 3 },
) =>
  fc.array(fc.double({ ...bounds, noNaN: true }), { minLength: sizeOf(shape), maxLength: sizeOf(shape) }).map(
    (values): Tensor =>
      f32(
        shape,
        values.map((value) => (Math.abs(value) < 1e-30 ? 0 : value)),
      ),
  );

/** Floats with NaN, infinities and both zeros among them. */
export const wildFloats = (shape: readonly number[]) =>
  fc
    .array(fc.constantFrom(Number.NaN, Infinity, -Infinity, 0, -0, 1, -1, 2.5, -88, 88, 1e-30, 3e38), {
      minLength: sizeOf(shape),
      maxLength: sizeOf(shape),
    })
    .map((values): Tensor => f32(shape, values));

export const integers = (shape: readonly number[], min: number, max: number) =>
  fc.array(fc.integer({ min, max }), { minLength: sizeOf(shape), maxLength: sizeOf(shape) });

export const longs = (shape: readonly number[], min = -9, max = 9) =>
  integers(shape, min, max).map((values) => i64(shape, values));
export const ints = (shape: readonly number[], min = -9, max = 9) =>
  integers(shape, min, max).map((values) => i32(shape, values));
export const bools = (shape: readonly number[]) => integers(shape, 0, 1).map((values) => bool(shape, values));

/** A shape that broadcasts to `shape`: some leading axes gone, some others 1. */
export const broadcastable = (shape: readonly number[]) =>
  fc
    .tuple(fc.integer({ min: 0, max: shape.length }), fc.array(fc.boolean(), { minLength: 6, maxLength: 6 }))
    .map(([drop, ones]) => shape.slice(drop).map((size, axis) => (ones[axis] ? 1 : size)));

/** Two shapes that broadcast with each other. */
export const broadcastPair = shapeOf(0, 5).chain((shape) =>
  fc.tuple(broadcastable(shape), broadcastable(shape)),
);

/** onnxruntime and tfjs agree on all cases drawn. */
export async function property(
  cases: fc.Arbitrary<Case>,
  options: { runs?: number; tolerance?: number } = {},
) {
  await fc.assert(
    fc.asyncProperty(cases, (test) => agrees(test, options.tolerance)),
    { numRuns: runs(options.runs ?? 15) },
  );
}
