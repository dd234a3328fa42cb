import fc from "fast-check";
import type { Tensor } from "../../../src/ir.ts";
import { tensorOf } from "../../../src/tensor.ts";
import type { Case, Input } from "../measure.ts";

/** Random cases of one operator: shapes, broadcasting, attributes; values come from the case's seed. */
export type Draw = fc.Arbitrary<Omit<Case, "op" | "seed">>;
/** By operator; `com.microsoft::Op` for onnxruntime's own. */
export type Draws = Readonly<Record<string, Draw>>;

export const size = fc.integer({ min: 1, max: 3 });
export const dims = (minLength: number, maxLength: number): fc.Arbitrary<number[]> =>
  fc.array(size, { minLength, maxLength });
export const bit = fc.nat(1);
export const float = (value: number) => ({ float: value });
export const oneOf = fc.constantFrom;

/** Attributes, each of which may be left out. */
export const maybe = <T extends Record<string, fc.Arbitrary<unknown>>>(all: T) =>
  fc.record(all, { requiredKeys: [] }) as fc.Arbitrary<Record<string, never>>;

/** One float input of any shape. */
export function unary(more: Omit<Case, "op" | "seed" | "inputs"> = {}, shapes = dims(0, 3)): Draw {
  return shapes.map((shape) => ({ inputs: [{ shape }], ...more }));
}

/** One float input of any shape and attributes. */
export function unaryWith(
  attributes: Record<string, fc.Arbitrary<unknown>>,
  more: Omit<Case, "op" | "seed" | "inputs"> = {},
): Draw {
  return fc
    .tuple(dims(0, 3), maybe(attributes))
    .map(([shape, drawn]) => ({ inputs: [{ shape }], attributes: drawn, ...more }));
}

/**
 * The same with an activation at its end. Of sums of products of larger values tanh and the sigmoid are flat,
 * and the gradient is a difference of almost equal numbers, in which float32 engines may differ by more than
 * the limit.
 */
export function activated(draw: Draw): Draw {
  return fc.tuple(draw, oneOf("Relu", "Tanh", "Sigmoid")).map(([it, activation]) => ({
    ...it,
    attributes: { ...(it.attributes as object), activation },
    range: [-1, 1],
  }));
}

/** Shapes that broadcast together: one of them with axes dropped in front, each with axes set to 1. */
export function broadcasting(count: number, axes = dims(0, 3)): fc.Arbitrary<number[][]> {
  const cuts = fc.array(fc.nat(2), { minLength: count, maxLength: count });
  const ones = fc.array(fc.array(fc.boolean(), { minLength: 3, maxLength: 3 }), {
    minLength: count,
    maxLength: count,
  });
  return fc
    .tuple(axes, cuts, ones)
    .map(([shape, cut, one]) =>
      one.map((single, i) =>
        shape
          .map((length, axis) => (single[axis] ? 1 : length))
          .slice(i === 0 ? 0 : Math.min(cut[i]!, shape.length)),
      ),
    );
}

/** An integer tensor that is fed or constant. */
export const ints = (shape: readonly number[], values: readonly number[], fed = false): Input => ({
  tensor: tensorOf("int64", shape, values),
  fed,
});
export const int32 = (shape: readonly number[], values: readonly number[]): Tensor =>
  tensorOf("int32", shape, values);
export const held = (...values: readonly number[]): Input => ints([values.length], values);

/** As many integers as a shape has places, from `low` to `high`. */
export function fill(shape: readonly number[], low: number, high: number): fc.Arbitrary<number[]> {
  const count = shape.reduce((a, b) => a * b, 1);
  return fc.array(fc.integer({ min: low, max: high }), { minLength: count, maxLength: count });
}

/** An axis of a shape, from the front or from the end. */
export const axisOf = (rank: number) => fc.integer({ min: -rank, max: rank - 1 });
