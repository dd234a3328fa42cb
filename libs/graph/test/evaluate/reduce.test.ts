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
