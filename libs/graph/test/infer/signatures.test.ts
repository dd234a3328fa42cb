import { describe, expect, test } from "vitest";
import { builderOn } from "../../src/builder.ts";
import { inferNode, knownOperators } from "../../src/infer/infer.ts";
import { checkSignature, signed } from "../../src/infer/signatures.ts";
import type { Attribute, Node } from "../../src/ir.ts";

const node = (op: string, inputs: readonly string[], attributes: Record<string, Attribute> = {}): Node => ({
  ...{ op, domain: "", name: "it", inputs, outputs: ["y"] },
  ...{ attributes: new Map(Object.entries(attributes)), metadata: new Map() },
});

test("every operator we know has a signature, and no other", () => {
  const named = (all: ReturnType<typeof signed>) => all.map(({ domain, op }) => `${domain}.${op}`).sort();
  expect(named(signed())).toEqual(named(knownOperators()));
});

const known = builderOn();
known.input({ name: "a", dtype: "float32", shape: [2] });
const facts = { opset: 17, static: (name: string) => known.static(name), constant: () => undefined };

describe("a node is held to it", () => {
  test("an attribute nobody knows, and what is known", () => {
    const gemm = node("Gemm", ["a", "b"], { transC: { kind: "int", value: 1 } });
    expect(() => checkSignature(gemm, facts)).toThrow(
      'Gemm "it" (opset 17): attributes: expected one of alpha, beta, transA, transB, got transC',
    );
    expect(() => checkSignature(node("Relu", ["a"], { slope: { kind: "float", value: 1 } }), facts)).toThrow(
      'Relu "it" (opset 17): attributes: expected no attributes, got slope',
    );
  });

  test("inputs too few, too many, or empty where one is needed", () => {
    expect(() => checkSignature(node("Gemm", ["a"]), facts)).toThrow("inputs: expected 2 to 3, got 1");
    expect(() => checkSignature(node("Relu", ["a", "b"]), facts)).toThrow("inputs: expected 1, got 2");
    expect(() => checkSignature(node("Where", ["a", "", "b"]), facts)).toThrow("got an empty one among");
    expect(() => checkSignature(node("Clip", ["a", "", "b"]), facts)).not.toThrow();
    expect(() => checkSignature(node("Concat", Array<string>(50).fill("a")), facts)).not.toThrow();
  });

  test("a float where indices, sizes or axes stand", () => {
    expect(() => checkSignature(node("Gather", ["a", "a"]), facts)).toThrow(
      'Gather "it" (opset 17): input 1: expected integers, got float32',
    );
  });

  test("before its own rule reads it", () => {
    const wrong = node("Relu", ["a", "a"]);
    expect(() => inferNode(wrong, facts)).toThrow("inputs: expected 1, got 2");
  });
});
