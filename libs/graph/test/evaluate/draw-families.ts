import fc from "fast-check";
import type { DType } from "../../src/ir.ts";
import { int64 } from "../../src/tensor.ts";
import { type Attributes, broadcastPair, node, type OneNode, shapes, tensor } from "../arbitrary.ts";

// Families of operators that are drawn alike.

/** How one operator is drawn, and in which operator set. */
export type Case = {
  readonly arbitrary: fc.Arbitrary<OneNode>;
  readonly opset?: number;
  readonly absolute?: number;
};

export type Range = { min: number; max: number };

export function unary(op: string, range: Range, attributes: Attributes = {}): Case {
  const arbitrary = shapes({ min: 0, max: 4 })
    .chain((shape) => tensor({ dtype: "float32", shape }, range))
    .map((x) => ({ node: node(op, 1, { attributes }), feeds: [x] }));
  return { arbitrary };
}

export function binary(op: string, dtypes: fc.Arbitrary<DType>, divisor: Range = { min: -8, max: 8 }): Case {
  const arbitrary = fc
    .tuple(broadcastPair, dtypes)
    .chain(([[a, b], dtype]) => fc.tuple(tensor({ dtype, shape: a }), tensor({ dtype, shape: b }, divisor)))
    .map((feeds) => ({ node: node(op, 2), feeds }));
  return { arbitrary };
}

export const bool = fc.constant<DType>("bool");
export const float = fc.constant<DType>("float32");
export const whole = fc.constantFrom<DType[]>("int64", "int32");

/** An axis of a shape, from either end. */
export function axisOf(rank: number): fc.Arbitrary<number> {
  return fc.integer({ min: -rank, max: rank - 1 });
}

export function reduction(op: string, opset: number, dtypes: fc.Arbitrary<DType>): Case {
  const asInput = opset >= (op === "ReduceSum" ? 13 : 18);
  const arbitrary = fc
    .tuple(shapes({ min: 1, max: op === "ReduceProd" ? 2 : 4 }), dtypes, fc.boolean())
    .chain(([shape, dtype, keep]) => {
      const all = shape.map((_, axis) => axis);
      const range = op === "ReduceProd" || op.includes("Log") ? { min: 1, max: 3 } : { min: -8, max: 8 };
      return fc.tuple(
        tensor({ dtype, shape }, range),
        fc.subarray(all, { minLength: 1 }),
        fc.constant(keep ? 1 : 0),
      );
    })
    .map(([x, axes, keepdims]) => {
      // Half of the axes are named from the end.
      const named = axes.map((axis) => (axis % 2 ? axis - x.shape.length : axis));
      return asInput
        ? { node: node(op, 2, { attributes: { keepdims } }), feeds: [x, int64(named)] }
        : { node: node(op, 1, { attributes: { keepdims, axes: named } }), feeds: [x] };
    });
  return { arbitrary, opset, absolute: 1e-4 };
}

export function axisLike(op: string, attributes: Attributes, dtypes: fc.Arbitrary<DType>): Case {
  const arbitrary = fc
    .tuple(shapes({ min: 1, max: 4 }), dtypes)
    .chain(([shape, dtype]) =>
      fc
        .tuple(tensor({ dtype, shape }), axisOf(shape.length))
        .map(([x, axis]) => ({ node: node(op, 1, { attributes: { axis, ...attributes } }), feeds: [x] })),
    );
  return { arbitrary };
}
