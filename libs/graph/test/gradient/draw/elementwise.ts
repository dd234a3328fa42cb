import fc from "fast-check";
import { tensorOf } from "../../../src/tensor.ts";
import type { Input } from "../measure.ts";
import {
  bit,
  broadcasting,
  type Draw,
  type Draws,
  dims,
  fill,
  float,
  oneOf,
  unary,
  unaryWith,
} from "./draw.ts";

const alpha = (...values: number[]) => oneOf(...values).map(float);
const POSITIVE = { range: [0.5, 3] } as const;

function binary(range: readonly [number, number] = [-2, 2]): Draw {
  return broadcasting(2).map((shapes) => ({ inputs: shapes.map((shape) => ({ shape })), range }));
}

const several: Draw = fc
  .integer({ min: 1, max: 3 })
  .chain((count) => broadcasting(count))
  .map((shapes) => ({ inputs: shapes.map((shape) => ({ shape })) }));

/** The slope broadcasts to the input, one way only. */
const slope: Draw = fc.tuple(dims(1, 3), fc.nat(2), fc.boolean()).map(([shape, cut, single]) => ({
  inputs: [{ shape }, { shape: single ? [1] : shape.slice(Math.min(cut, shape.length - 1)) }],
}));

const clip: Draw = fc
  .tuple(dims(0, 3), oneOf("none", "fixed", "computed"), oneOf("none", "fixed", "computed"))
  .map(([shape, low, high]) => {
    const bound = (kind: string, value: number): Input =>
      kind === "none" ? undefined : { shape: [], values: [value], frozen: kind === "fixed" };
    return { inputs: [{ shape }, bound(low, -0.5), bound(high, 1)], range: [-1.5, 2] };
  });

const choice: Draw = broadcasting(3).chain(([mask, yes, no]) =>
  fc.tuple(fill(mask!, 0, 1), fc.boolean()).map(([flags, fed]) => ({
    inputs: [{ tensor: tensorOf("bool", mask!, flags), fed }, { shape: yes! }, { shape: no! }],
  })),
);

const power: Draw = fc.oneof(
  binary([0.5, 2]),
  fc.tuple(dims(0, 2), oneOf(0, 1, 2, 3, 0.5, -1, -2, 1.5)).map(([shape, exponent]) => ({
    inputs: [{ shape }, { shape: [], values: [exponent], frozen: true }],
    range: [0.5, 2] as const,
  })),
  dims(1, 2).chain((shape) =>
    fill([shape.at(-1)!], 0, 3).map((powers) => ({
      inputs: [{ shape }, { tensor: tensorOf("int64", [shape.at(-1)!], powers) }],
    })),
  ),
);

/** The remainder jumps where the quotient is whole: multiples of these divisors are quarters. */
const remainder: Draw = fc.tuple(dims(0, 2), oneOf(0.5, 0.75, 1.25, -1.5)).map(([shape, by]) => ({
  inputs: [{ shape }, { shape: [1], values: [by] }],
  attributes: { fmod: 1 },
}));

export const ELEMENTWISE: Draws = {
  ...Object.fromEntries(
    ["Abs", "Neg", "Exp", "Erf", "Tanh", "Sigmoid", "Relu", "Softplus", "Sin", "Cos", "Softsign"]
      .concat(["Identity", "Dropout", "Floor", "Ceil", "Round", "Sign", "Selu"])
      .map((op) => [op, unary()]),
  ),
  ...Object.fromEntries(["Sqrt", "Log", "Reciprocal"].map((op) => [op, unary(POSITIVE)])),
  Tan: unary({ range: [-1.2, 1.2] }),
  ...Object.fromEntries(["Asinh", "Atan", "Cosh", "Sinh"].map((op) => [op, unary()])),
  ...Object.fromEntries(["Acos", "Asin", "Atanh"].map((op) => [op, unary({ range: [-0.9, 0.9] })])),
  Acosh: unary({ range: [1.2, 3] }),
  Mish: unary({ opset: 18 }),
  HardSwish: unary({ range: [-5, 5] }),
  LeakyRelu: unaryWith({ alpha: alpha(0.25, 0.1) }),
  Elu: unaryWith({ alpha: alpha(0.7, 1.5) }),
  Celu: unaryWith({ alpha: alpha(0.7, 1.5) }),
  ThresholdedRelu: unaryWith({ alpha: alpha(0.5, 0.25) }),
  Swish: unaryWith({ alpha: alpha(0.5, 1.5) }, { opset: 24 }),
  Shrink: unaryWith({ lambd: alpha(0.25, 1), bias: alpha(0, 0.5) }),
  // α·x + ½ leaves 0…1 at quarters.
  HardSigmoid: unaryWith({ alpha: alpha(0.2, 0.25, 0.5) }, { range: [-4, 4] }),
  Gelu: unaryWith({ approximate: oneOf("none", "tanh") }, { opset: 20 }),
  Cast: unary({ attributes: (dtype) => ({ to: dtype === "float64" ? 11 : 1 }) }),
  CastLike: dims(0, 3).map((shape) => ({ inputs: [{ shape }, { shape: [1], frozen: true }] })),
  EyeLike: unary({}, dims(2, 2)),
  Clip: clip,
  ...Object.fromEntries(["Add", "Sub", "Mul"].map((op) => [op, binary()])),
  Div: binary([0.5, 2]),
  Pow: power,
  Mod: remainder,
  ...Object.fromEntries(["Max", "Min", "Sum", "Mean"].map((op) => [op, several])),
  PRelu: slope,
  Where: choice,
};

/** Of one input, or with a bias along the last axis. */
const biased: Draw = dims(1, 3).map((shape) => ({ inputs: [{ shape }, { shape: [shape.at(-1)!] }] }));

export const MICROSOFT_ELEMENTWISE: Draws = {
  Gelu: unary(),
  QuickGelu: unaryWith({ alpha: alpha(1.5, 0.5) }),
  FastGelu: fc.oneof(unary({}, dims(1, 3)), biased),
  BiasGelu: biased,
  BiasAdd: fc.tuple(size3(), dims(2, 2)).map(([channels, [batch, places]]) => {
    const shape = [batch!, places!, channels];
    return { inputs: [{ shape }, { shape: [channels] }, { shape }] };
  }),
  BiasSplitGelu: fc.tuple(dims(2, 2), bit).map(([[batch, places], more]) => {
    const channels = 2 + 2 * more;
    return { inputs: [{ shape: [batch!, places!, channels] }, { shape: [channels] }] };
  }),
};

function size3(): fc.Arbitrary<number> {
  return fc.integer({ min: 1, max: 4 });
}
