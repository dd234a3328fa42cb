import fc from "fast-check";
import { describe, expect, test } from "vitest";
import {
  bools,
  broadcastable,
  broadcastPair,
  flag,
  floats,
  ints,
  longs,
  property,
  shapeOf,
  wildFloats,
} from "./arbitrary.ts";
import { agrees, BACKENDS, bool, f32, i64, onTfjs } from "./harness.ts";

const UNARY = [
  "Neg",
  "Abs",
  "Exp",
  "Erf",
  "Tanh",
  "Sigmoid",
  "Relu",
  "Softplus",
  "Sin",
  "Cos",
  "Sign",
  "Floor",
];
const MORE = [
  "Ceil",
  "Round",
  "IsNaN",
  "IsInf",
  "Identity",
  "HardSwish",
  "HardSigmoid",
  "LeakyRelu",
  "Elu",
  "Softsign",
];

describe("of one input", () => {
  test.each([...UNARY, ...MORE])("%s", (op) =>
    property(
      shapeOf(0, 4)
        .chain((shape) => floats(shape))
        .map((x) => ({ op, inputs: [x] })),
    ),
  );
  test.each(["Sqrt", "Log", "Reciprocal"])("%s of what is positive", (op) =>
    property(
      shapeOf(0, 4)
        .chain((s) => floats(s, { min: 0.01, max: 9 }))
        .map((x) => ({ op, inputs: [x] })),
    ),
  );
  test.each([
    "Neg",
    "Abs",
    "Relu",
    "Sqrt",
    "Exp",
    "Tanh",
    "Sigmoid",
    "IsNaN",
    "IsInf",
    "Floor",
    "Erf",
    "Reciprocal",
  ])("%s of NaN, infinities and zeros", (op) => property(wildFloats([12]).map((x) => ({ op, inputs: [x] }))));
  test.each(["Neg", "Abs", "Sign"])("%s of integers", (op) =>
    property(
      shapeOf(0, 3)
        .chain((shape) => longs(shape))
        .map((x) => ({ op, inputs: [x] })),
      { runs: 8 },
    ),
  );
  test("Not", () =>
    property(
      shapeOf(0, 3)
        .chain(bools)
        .map((x) => ({ op: "Not", inputs: [x] })),
    ));
  test("Gelu, exactly and by tanh", () =>
    property(
      fc
        .tuple(
          shapeOf(0, 3).chain((s) => floats(s)),
          fc.constantFrom("none", "tanh"),
        )
        .map(([x, approximate]) => ({ op: "Gelu", opset: 20, attributes: { approximate }, inputs: [x] })),
    ));
  test("LeakyRelu, Elu and HardSigmoid read alpha", async () => {
    const x = f32([4], [-2, -0.5, 0.5, 2]);
    for (const op of ["LeakyRelu", "Elu", "HardSigmoid"])
      await agrees({ op, attributes: { alpha: { float: 0.3 } }, inputs: [x] });
  });
});

const BINARY = ["Add", "Sub", "Mul", "Div"];
const COMPARE = ["Equal", "Less", "LessOrEqual", "Greater", "GreaterOrEqual"];

describe("of two inputs that broadcast", () => {
  const pair = (of: typeof floats | typeof longs | typeof ints) =>
    broadcastPair.chain(([a, b]) => fc.tuple(of(a) as fc.Arbitrary<ReturnType<typeof f32>>, of(b)));
  test.each([...BINARY, ...COMPARE, "Min", "Max"])("%s of floats", (op) =>
    property(pair(floats).map((inputs) => ({ op, inputs }))),
  );
  test.each([...COMPARE, "Add", "Sub", "Mul", "Min", "Max"])("%s of int64", (op) =>
    property(pair(longs).map((inputs) => ({ op, inputs }))),
  );
  test.each([...COMPARE, "Add", "Mul"])("%s of int32", (op) =>
    property(
      pair(ints).map((inputs) => ({ op, inputs })),
      { runs: 8 },
    ),
  );
  test.each([...BINARY, ...COMPARE])("%s of NaN, infinities and zeros", (op) =>
    property(fc.tuple(wildFloats([8]), wildFloats([8])).map((inputs) => ({ op, inputs }))),
  );
  test.each(["And", "Or", "Xor", "Equal"])("%s of bools", (op) =>
    property(broadcastPair.chain(([a, b]) => fc.tuple(bools(a), bools(b))).map((inputs) => ({ op, inputs }))),
  );
  test("Div of integers goes towards zero", () =>
    property(
      fc
        .tuple(longs([6], -20, 20), longs([6], 1, 5), fc.constantFrom(1n, -1n))
        .map(([a, b, sign]) => [
          a,
          i64(
            [6],
            Array.from(b.data as BigInt64Array, (v) => Number(v * sign)),
          ),
        ])
        .map((inputs) => ({ op: "Div", inputs })),
    ));
  test("Add beyond the rank wasm's kernel knows", () =>
    agrees({
      op: "Add",
      inputs: [
        f32(
          [1, 2, 1, 2, 1, 2, 2],
          Array.from({ length: 16 }, (_, i) => i),
        ),
        f32([2, 1, 2, 1, 2, 1, 1], [1, 2, 3, 4, 5, 6, 7, 8]),
      ],
    }));
  test("Min and Max of three, NaN winning", async () => {
    const inputs = [f32([3], [Number.NaN, 1, 5]), f32([1], [2]), f32([3], [0, Number.NaN, 7])];
    for (const op of ["Min", "Max", "Sum", "Mean"]) await agrees({ op, inputs });
  });
});

describe("Pow", () => {
  test("of positive bases", () =>
    property(
      broadcastPair
        .chain(([a, b]) => fc.tuple(floats(a, { min: 0.1, max: 3 }), floats(b)))
        .map((inputs) => ({ op: "Pow", inputs })),
    ));
  test("of any base by a constant", () =>
    property(
      fc
        .tuple(
          shapeOf(0, 3).chain((s) => floats(s)),
          fc.constantFrom(0, 1, 2, 3, 4, -1, -2),
        )
        .map(([x, y]) => ({ op: "Pow", inputs: [x, f32([], [y])], constant: [1] })),
    ));
  test("takes the base's type, and the exponent's shape", async () => {
    await agrees({ op: "Pow", inputs: [i64([3], [2, -3, 4]), f32([], [2])] });
    await agrees({ op: "Pow", inputs: [f32([3], [2, -3, 4]), i64([], [2])], constant: [1] });
    await agrees({ op: "Pow", inputs: [f32([3], [2, -3, 4]), i64([1, 1], [2])], constant: [1] });
    await agrees({ op: "Pow", inputs: [f32([], [3]), f32([2], [2, 0.5])], constant: [1] });
  });
});

describe("Mod", () => {
  test("of integers takes the divisor's sign, with fmod the dividend's", () =>
    property(
      fc.tuple(longs([8], -20, 20), longs([1], 1, 7), flag, fc.boolean()).map(([a, b, fmod, negative]) => ({
        op: "Mod",
        attributes: { fmod },
        inputs: [a, negative ? i64([1], [-Number((b.data as BigInt64Array)[0])]) : b],
      })),
    ));
  test("of floats", () =>
    property(
      fc
        .tuple(floats([6]), floats([6], { min: 0.5, max: 2 }))
        .map((inputs) => ({ op: "Mod", attributes: { fmod: 1 }, inputs })),
    ));
});

describe("Clip", () => {
  test("bounds as inputs, one or both absent, constant or fed", () =>
    property(
      fc
        .record({
          x: shapeOf(0, 3).chain((s) => floats(s)),
          low: fc.boolean(),
          high: fc.boolean(),
          held: fc.boolean(),
        })
        .map(({ x, low, high, held }) => ({
          op: "Clip",
          inputs: [x, low ? f32([], [-1]) : undefined, ...(high ? [f32([], [0.7])] : [])],
          constant: held ? [1, 2] : [],
        })),
    ));
  test("bounds as attributes", () =>
    agrees({
      op: "Clip",
      opset: 6,
      attributes: { min: { float: 0 }, max: { float: 6 } },
      inputs: [f32([3], [-1, 3, 9])],
    }));
  test("integers, bounds crossed, NaN and infinities", async () => {
    await agrees({
      op: "Clip",
      inputs: [i64([3], [-5, 0, 5]), i64([], [-2]), i64([], [3])],
      constant: [1, 2],
    });
    await agrees({ op: "Clip", inputs: [f32([2], [-5, 5]), f32([], [3]), f32([], [-3])], constant: [1, 2] });
    const wild = f32([5], [Number.NaN, Infinity, -Infinity, 3e38, -3e38]);
    await agrees({ op: "Clip", inputs: [wild, f32([], [0]), f32([], [6])], constant: [1, 2] });
    await agrees({ op: "Clip", inputs: [wild, f32([], [0])], constant: [1] });
  });
});

describe("Where", () => {
  test("all three broadcast", () =>
    property(
      fc
        .tuple(shapeOf(0, 4), fc.boolean())
        .chain(([shape, isFloat]) => {
          const of = (s: readonly number[]) => (isFloat ? floats(s) : longs(s));
          const any = () => broadcastable(shape);
          return fc.tuple(any().chain(bools), any().chain(of), any().chain(of));
        })
        .map((inputs) => ({ op: "Where", inputs })),
    ));
  test("of bools, which onnxruntime does not choose between", async () => {
    const test = { op: "Where", inputs: [bool([2, 1], [1, 0]), bool([2], [1, 0]), bool([], [1])] };
    for (const backend of BACKENDS) {
      const results = await onTfjs(backend, test, new Map([["y0", { dtype: "bool", shape: [2, 2] }]]));
      expect(Array.from(results.get("y0")!.data as Uint8Array)).toEqual([1, 0, 1, 1]);
    }
  });
  test("a mask of -inf", () =>
    agrees({
      op: "Where",
      inputs: [bool([2, 1], [1, 0]), f32([2, 2], [1, 2, 3, 4]), f32([], [-Infinity])],
      constant: [2],
    }));
});

describe("Cast", () => {
  const to = { float32: 1, uint8: 2, int8: 3, int32: 6, int64: 7, bool: 9 };
  test.each(Object.entries(to))("to %s", async (_, code) => {
    const attributes = { to: code };
    await agrees({ op: "Cast", attributes, inputs: [f32([6], [-1.7, -0.5, 0, 0.5, 1.7, 120])] });
    await agrees({ op: "Cast", attributes, inputs: [i64([4], [-100, 0, 1, 100])] });
    await agrees({ op: "Cast", attributes, inputs: [bool([2], [0, 1])] });
  });
});
