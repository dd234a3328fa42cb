import { describe, expect, test } from "vitest";
import { activeTensors, type Method } from "../src/method.ts";
import { factorSpecs } from "../src/spec.ts";

const linear = { module: "fc", kind: "linear", in: 3, out: 2, kernel: [], rank: 1 } as const;
const table = { module: "emb", kind: "embedding", in: 9, out: 2, kernel: [], rank: 1 } as const;
const tensors = [...factorSpecs(linear), ...factorSpecs(table), { name: "head.weight", shape: [2, 2] }];
const [A, B, TABLE_A, TABLE_B, HEAD] = tensors.map(({ name }) => name);
const names = (method: Method, round: number) =>
  activeTensors(method, round, tensors).map(({ name }) => name);

describe("docs/onnx.md, Methods under a secure sum: what travels up", () => {
  test("fedit sends both factors every round", () => {
    for (const round of [0, 1, 2]) expect(names("fedit", round)).toEqual([A, B, TABLE_A, TABLE_B, HEAD]);
  });

  test("ffa sends B alone every round", () => {
    for (const round of [0, 1, 2]) expect(names("ffa", round)).toEqual([B, TABLE_B, HEAD]);
  });

  test("rolora sends B in even rounds, A in odd ones", () => {
    for (const round of [0, 2, 4]) expect(names("rolora", round)).toEqual([B, TABLE_B, HEAD]);
    for (const round of [1, 3, 5]) expect(names("rolora", round)).toEqual([A, TABLE_A, HEAD]);
  });

  test("a whole tensor whose name merely contains a factor's is whole", () => {
    const odd = [{ name: "lora_A.weight.bias", shape: [1] }];
    expect(activeTensors("ffa", 0, odd)).toEqual(odd);
  });

  test("a round that is no natural number is refused", () => {
    expect(() => names("rolora", -1)).toThrow(/round: expected an integer/);
    expect(() => names("rolora", 0.5)).toThrow(/round: expected an integer/);
  });
});
