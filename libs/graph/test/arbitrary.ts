import fc from "fast-check";
import { type DType, type Node, type Static, sizeOf, type Tensor } from "../src/ir.ts";
import { tensorOf } from "../src/tensor.ts";

/** Random graphs of one node: what an operator is fed, with which attributes. */
export type OneNode = { readonly node: Node; readonly feeds: readonly Tensor[] };

export function shapes(rank: { min: number; max: number }): fc.Arbitrary<number[]> {
  return fc.array(fc.integer({ min: 1, max: 4 }), { minLength: rank.min, maxLength: rank.max });
}

/** Values in a range that suits the operator; halves and integers alike come from one integer draw. */
export function tensor(
  { dtype, shape }: Static,
  range: { min: number; max: number } = { min: -8, max: 8 },
): fc.Arbitrary<Tensor> {
  const fine = dtype.startsWith("float") ? 0.125 : 1;
  const value = fc.integer({ min: Math.ceil(range.min / fine), max: Math.floor(range.max / fine) });
  const size = sizeOf(shape);
  return fc.array(value, { minLength: size, maxLength: size }).map((values) =>
    tensorOf(
      dtype,
      shape,
      values.map((x) => (dtype === "bool" ? x & 1 : x * fine)),
    ),
  );
}

/** Two shapes that broadcast: one drawn, the other with axes dropped from the front or set to 1. */
export const broadcastPair: fc.Arbitrary<[number[], number[]]> = fc
  .tuple(shapes({ min: 0, max: 4 }), fc.infiniteStream(fc.boolean()), fc.nat(4), fc.boolean())
  .map(([shape, bits, drop, swap]) => {
    const flat = () => shape.map((size) => (bits.next().value ? 1 : size));
    const [a, b] = [flat(), flat().slice(Math.min(drop, shape.length))];
    return swap ? [b, a] : [a, b];
  });

export function numeric(): fc.Arbitrary<DType> {
  return fc.constantFrom<DType[]>("float32", "int64", "int32");
}

/** A node of the standard domain reading x0, x1, … and writing y0, y1, …. */
export function node(
  op: string,
  inputs: number,
  { attributes = {}, outputs = 1 }: { attributes?: Attributes; outputs?: number } = {},
): Node {
  const kinds = Object.entries(attributes).map(([name, value]) => [name, attributeOf(value)] as const);
  return {
    op,
    domain: "",
    name: op,
    inputs: Array.from({ length: inputs }, (_, i) => `x${i}`),
    outputs: Array.from({ length: outputs }, (_, i) => `y${i}`),
    attributes: new Map(kinds),
    metadata: new Map(),
  };
}

export type Attributes = Readonly<Record<string, number | string | readonly number[] | { float: number }>>;

function attributeOf(value: Attributes[string]) {
  if (typeof value === "string") return { kind: "string", value } as const;
  if (typeof value === "number") return { kind: "int", value } as const;
  if ("float" in value) return { kind: "float", value: Math.fround(value.float) } as const;
  return { kind: "ints", value } as const;
}
