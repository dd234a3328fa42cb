import { describe, expect, test } from "vitest";
import { gapOf } from "../../src/engines/gap.ts";
import { toHalf } from "../../src/half.ts";
import { float32, type Tensor, type Tensors } from "../../src/ir.ts";

const row = (...values: number[]) => float32([values.length], Float32Array.from(values));
const only = (tensor: Tensor, name = "y"): Tensors => new Map([[name, tensor]]);

describe("gapOf", () => {
  test("is a share of the output's own largest element, and names the worst output", () => {
    const wanted = new Map([
      ["a", row(100, 1)],
      ["b", row(0.01, 0)],
    ]);
    const got = new Map([
      ["a", row(100, 2)],
      ["b", row(0.01, 0.001)],
    ]);
    expect(gapOf(got, wanted)).toEqual({ output: "b", gap: expect.closeTo(0.1, 6) });
    expect(gapOf(wanted, wanted)).toEqual({ output: "", gap: 0 });
  });

  test("a gradient that is zero but for rounding is measured by the other gradients", () => {
    const step = (bias: number) =>
      new Map([
        ["grad.weight", row(0.2, -0.1)],
        ["grad.key.bias", row(bias, 0)],
      ]);
    expect(gapOf(step(9e-10), step(-4e-10)).gap).toBeLessThan(1e-5);
    // A small gradient that is wrong and no rounding is seen.
    expect(gapOf(step(9e-6), step(-4e-6)).gap).toBeGreaterThan(0.01);
    // Any other output stands for itself.
    const loss = (value: number) => new Map([...step(0), ["loss", row(value)]]);
    expect(gapOf(loss(2e-6), loss(1e-6)).gap).toBeCloseTo(1, 3);
  });

  test.each([
    ["no number on one side", only(row(Number.NaN, 1)), only(row(1, 1))],
    ["no number on the other", only(row(1, 1)), only(row(Number.NaN, 1))],
    ["an infinity of the other sign", only(row(-Infinity)), only(row(Infinity))],
    ["other dimensions", only(float32([1, 2], Float32Array.of(1, 2))), only(row(1, 2))],
    ["another output", only(row(1), "z"), only(row(1))],
    ["anything where zero is wanted", only(row(1e-9)), only(row(0))],
  ])("is infinite for %s", (_, got, wanted) => {
    expect(gapOf(got, wanted)).toEqual({ output: "y", gap: Number.POSITIVE_INFINITY });
  });

  test("the same infinity, or no number on both sides, is no difference", () => {
    const step = only(row(Infinity, -Infinity, Number.NaN, 0));
    expect(gapOf(only(row(Infinity, -Infinity, Number.NaN, -0)), step).gap).toBe(0);
  });

  test("reads halves and 64-bit integers as the numbers they stand for", () => {
    const half = (...values: number[]): Tensor => ({
      ...{ dtype: "float16", shape: [values.length] },
      data: Uint16Array.from(values, toHalf),
    });
    expect(gapOf(only(half(1, -2)), only(half(1, 2))).gap).toBe(2);
    const long = (value: bigint): Tensor => ({ dtype: "int64", shape: [1], data: BigInt64Array.of(value) });
    expect(gapOf(only(long(3n)), only(long(2n))).gap).toBe(0.5);
  });
});
