import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { builderOn } from "../../src/builder.ts";
import { differentiate } from "../../src/differentiate.ts";
import { float32, type Tensor } from "../../src/ir.ts";
import { tensorOf } from "../../src/tensor.ts";
import { runs } from "../runs.ts";
import { bool, type Case, checkGradient } from "./check.ts";
import { run64 } from "./twin.ts";

const shape = [3, 4];
const one = (op: string, more: Partial<Case> = {}): Case => ({ op, inputs: [{ shape }], ...more });

// Kinks are avoided by the draw: with 12 values in [−2, 2] none lies within 1e-5 of one.
const UNARY: readonly Case[] = [
  ...[
    "Neg",
    "Abs",
    "Exp",
    "Erf",
    "Tanh",
    "Sigmoid",
    "Relu",
    "LeakyRelu",
    "Softplus",
    "Sin",
    "Cos",
    "Softsign",
  ].map((op) => one(op)),
  ...["Sqrt", "Log", "Reciprocal"].map((op) => one(op, { range: [0.5, 3] })),
  one("LeakyRelu", { attributes: { alpha: { float: 0.25 } } }),
  one("Elu", { attributes: { alpha: { float: 0.7 } } }),
  one("HardSigmoid", { range: [-4, 4] }),
  one("HardSwish", { range: [-5, 5] }),
  one("Gelu", { opset: 20 }),
  one("Gelu", { opset: 20, attributes: { approximate: "tanh" } }),
  one("Mish", { opset: 18 }),
  one("Identity"),
  one("Dropout"),
  { op: "Clip", inputs: [{ shape }, scalar(-0.5), scalar(1)] },
  { op: "Clip", inputs: [{ shape }, undefined, scalar(1)] },
  // Bounds that are computed get what arrives where they cut; a low bound above the high one never does.
  { op: "Clip", inputs: [{ shape }, { shape: [], values: [-0.6] }, { shape: [], values: [0.7] }] },
  { op: "Clip", inputs: [{ shape }, { shape: [], values: [0.7] }, { shape: [], values: [-0.6] }] },
];

function scalar(value: number): { shape: readonly number[]; values: readonly number[]; frozen: boolean } {
  return { shape: [], values: [value], frozen: true };
}

describe("unary", () => {
  for (const it of UNARY) test(`${it.op} ${JSON.stringify(it.attributes ?? "")}`, () => checkGradient(it));
});

/** Two shapes that broadcast together, up to rank 3, sizes 1 to 3. */
const broadcastPair = fc
  .array(fc.tuple(fc.integer({ min: 1, max: 3 }), fc.boolean(), fc.boolean()), { maxLength: 3 })
  .chain((axes) =>
    fc.tuple(fc.nat(axes.length), fc.nat(axes.length)).map(([cutA, cutB]) => ({
      a: axes.map(([size, single]) => (single ? 1 : size)).slice(cutB === 0 ? cutA : 0),
      b: axes.map(([size, , single]) => (single ? 1 : size)).slice(cutB),
    })),
  );

describe("binary, broadcast either way", () => {
  for (const op of ["Add", "Sub", "Mul", "Div", "Pow", "Max", "Min", "Sum", "PRelu"]) {
    test(op, async () => {
      await fc.assert(
        fc.asyncProperty(broadcastPair, fc.nat(1000), ({ a, b }, seed) => {
          // PRelu broadcasts one way only: its slope to x.
          const fits =
            a.length >= b.length && b.every((size, i) => size === 1 || size === a[i + a.length - b.length]);
          fc.pre(op !== "PRelu" || fits);
          const range = op === "Pow" || op === "Div" ? ([0.5, 2] as const) : ([-2, 2] as const);
          return checkGradient({ op, inputs: [{ shape: a }, { shape: b }], range, seed });
        }),
        { numRuns: runs(9) },
      );
    });
  }
});

describe("Pow with a constant exponent", () => {
  for (const power of [1, 2, 3, 0.5, -1, 1.7]) {
    test(`x^${power}`, () =>
      checkGradient({ op: "Pow", inputs: [{ shape }, scalar(power)], range: [0.5, 2] }));
  }
  test("the power 0 is flat, also at 0", () =>
    checkGradient({ op: "Pow", inputs: [{ shape: [3], values: [-2, 0, 1] }, scalar(0)] }));
  test("integer powers, one per element", async () => {
    for (const dtype of ["int64", "int32"] as const) {
      const powers = { tensor: tensorOf(dtype, [4], [0, 1, 2, 3]) };
      await checkGradient({ op: "Pow", inputs: [{ shape: [3, 4] }, powers] });
    }
  });
  test("a square at and below zero", () =>
    checkGradient({ op: "Pow", inputs: [{ shape: [3], values: [-2, 0, 1] }, scalar(2)] }));
});

describe("ties and choices", () => {
  test("Max of three, two of which tie, shares evenly", () => {
    const [a, b, c] = gradients("Max", [[1], [1], [0]]);
    expect([a, b, c]).toEqual([[0.5], [0.5], [0]]);
  });

  test("Clip has slope 1 at a bound, Relu slope 0 at zero (torch)", () => {
    expect(
      gradients("Clip", [[-1, 0, 1]], [tensorOf("float32", [], [-1]), tensorOf("float32", [], [1])]),
    ).toEqual([[1, 1, 1]]);
    expect(gradients("Relu", [[0, 1]])).toEqual([[0, 1]]);
  });

  test("Where with broadcasting", () =>
    checkGradient({
      op: "Where",
      inputs: [{ tensor: bool([3, 1], [1, 0, 1]) }, { shape: [3, 4] }, { shape: [4] }],
    }));

  test("Where hides an infinite branch from the gradient", () => {
    const b = builderOn();
    const x = b.input({ name: "x", dtype: "float32", shape: [2] });
    const log = b.emit("Log", [x]);
    const safe = b.emit("Greater", [x, b.scalar(0)]);
    b.output(
      b.emit("ReduceSum", [b.emit("Where", [safe, x, b.emit("Neg", [x])])], { axes: [0], keepdims: 0 }),
      "loss",
    );
    b.output(log, "unused");
    const graph = differentiate(b.finish(), { loss: "loss", wrt: ["x"] });
    const got = run64(graph, new Map([["x", float32([2], Float32Array.of(0, 2))]])).get("grad.x")!;
    expect([...(got.data as Float32Array)]).toEqual([-1, 1]);
  });
});

/** Gradients of Σ op(inputs) at given vectors. */
function gradients(
  op: string,
  inputs: readonly (readonly number[])[],
  constants: readonly Tensor[] = [],
): number[][] {
  const b = builderOn();
  const names = inputs.map((v, i) => b.input({ name: `x${i}`, dtype: "float32", shape: [v.length] }));
  const y = b.emit(op, [...names, ...constants.map((tensor) => b.constant(tensor))]);
  b.output(b.emit("ReduceSum", [y], { axes: [0], keepdims: 0 }), "loss");
  const graph = differentiate(b.finish(), { loss: "loss", wrt: names });
  const feeds = new Map(
    names.map((name, i) => [name, float32([inputs[i]!.length], Float32Array.from(inputs[i]!))]),
  );
  const results = run64(graph, feeds);
  return names.map((name) => [...(results.get(`grad.${name}`)!.data as Float32Array)]);
}
