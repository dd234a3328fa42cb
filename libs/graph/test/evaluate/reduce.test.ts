import { expect, test } from "vitest";
import { evaluateNode } from "../../src/evaluate/evaluate.ts";
import { tensorOf } from "../../src/tensor.ts";
import { node } from "../arbitrary.ts";

test.each([
  ["ReduceSum", "int64", 0n],
  ["ReduceProd", "int64", 1n],
  ["ReduceMax", "int64", -(2n ** 63n)],
  ["ReduceMin", "int64", 2n ** 63n - 1n],
  ["ReduceMax", "int32", -(2 ** 31)],
  ["ReduceMin", "uint8", 255],
  ["ReduceMax", "float32", -Infinity],
  ["ReduceMin", "float32", Infinity],
] as const)("%s over no elements of %s is %s", (op, dtype, expected) => {
  const nothing = tensorOf(dtype, [2, 0], []);
  const it = node(op, 1, { attributes: { axes: [1], keepdims: 0 } });
  const [result] = evaluateNode(it, { opset: 12, constant: () => nothing });
  expect(Array.from(result!.data as ArrayLike<number | bigint>)).toEqual([expected, expected]);
});

const reduced = (op: string, values: readonly number[], shape: readonly number[] = [values.length]) => {
  const it = node(op, 1, { attributes: { axes: [shape.length - 1], keepdims: 0 } });
  const [result] = evaluateNode(it, { opset: 12, constant: () => tensorOf("float32", shape, values) });
  return Array.from(result!.data as Float32Array);
};

test("ReduceLogSumExp where no sum is finite, as engines have it", () => {
  const [none, all] = [Number.NEGATIVE_INFINITY, Number.POSITIVE_INFINITY];
  expect(reduced("ReduceLogSumExp", [none, none, 1, all, none, 0], [3, 2])).toEqual([none, all, 0]);
  expect(reduced("ReduceLogSumExp", [Number.NaN, 1])).toEqual([Number.NaN]);
});

test.each([
  ["ReduceLogSumExp", Math.log(200_000)],
  ["GlobalMaxPool", 0],
])("%s of more values than a stack holds", (op, expected) => {
  const shape = op === "ReduceLogSumExp" ? [200_000] : [1, 1, 200_000];
  const it = node(op, 1, { attributes: op === "ReduceLogSumExp" ? { axes: [0], keepdims: 0 } : {} });
  const x = { ...tensorOf("float32", [], [0]), shape, data: new Float32Array(200_000) };
  const [result] = evaluateNode(it, { opset: 12, constant: () => x });
  expect(Number(result!.data[0])).toBeCloseTo(expected, 4);
});
