import fc from "fast-check";
import { describe, expect, test } from "vitest";
import type { Node } from "../../graph/src/ir.ts";
import { matches, moduleOf, wrapperOf } from "../src/find/names.ts";
import { node } from "./bases.ts";

const named = (name: string, op = "MatMul") => node(op, ["x", "w"], "y", {}, name);
const scoped = (scopes: string, op = "MatMul"): Node => {
  return { ...named("node_linear", op), metadata: new Map([["pkg.torch.onnx.name_scopes", scopes]]) };
};

describe("docs/onnx.md, Fields and names: the module a node came from", () => {
  test("1. dynamo's metadata gives the last module before the final name", () => {
    expect(moduleOf(scoped("['', 'm', 'm.bert', 'm.bert.layer.0.query', 'linear_3']"))).toBe(
      "m.bert.layer.0.query",
    );
    expect(moduleOf(scoped(`["", "m", "m.it's", "linear"]`))).toBe("m.it's");
  });

  test("1. at the model's root, where no module stands, the weight's name gives it", () => {
    expect(moduleOf(scoped("['', 'linear']"), ["fc.weight"])).toBe("fc");
  });

  test("1. a batch norm folded into a convolution does not name it", () => {
    const folded = scoped("['', 'm', 'm.b1', '_native_batch_norm_legit_no_training']", "Conv");
    expect(moduleOf(folded, ["m.c1.weight"])).toBe("m.c1");
  });

  test("2. the older exporter's path gives it, repetitions left out", () => {
    expect(moduleOf(named("/m/m.0/Gemm"))).toBe("m.0");
    expect(moduleOf(named("/m/bert/encoder/layer.0/attention/self/query/MatMul"))).toBe(
      "m.bert.encoder.layer.0.attention.self.query",
    );
    expect(moduleOf(named("/conv1/Conv"), ["other.weight"])).toBe("conv1");
    expect(moduleOf(named("/MatMul"))).toBeUndefined();
  });

  test("3. the weight's own name comes before TensorFlow's scope", () => {
    expect(moduleOf(named("MatMul_12"), ["onnx::MatMul_3", "a.b.weight"])).toBe("a.b");
    expect(moduleOf(named("model/dense_1/MatMul"), ["W"])).toBe("model.dense_1");
  });

  test("4. an anonymous weight of an unnamed node belongs to no module", () => {
    expect(moduleOf(named("MatMul_12"), ["W"])).toBeUndefined();
  });
});

describe("patterns", () => {
  test.each([
    ["query", "bert.layer.0.query", true],
    ["0.query", "bert.layer.0.query", true],
    ["0.query", "bert.layer.10.query", false],
    ["bert.layer.0.query", "bert.layer.0.query", true],
    ["layer.*.query", "bert.layer.0.self.query", true],
    ["layer.*.query", "bert.layer.0.self.key", false],
    ["*", "anything", true],
    ["quer", "bert.query", false],
    ["query", "query.dense", false],
    ["query*", "bert.query.dense", true],
    ["", "bert", false],
  ])("%s means %s: %s", (pattern, name, expected) => {
    expect(matches(pattern, name)).toBe(expected);
  });

  test("match what a regular expression does", () => {
    const text = fc.string({ unit: fc.constantFrom("a", "b", ".", "*"), maxLength: 8 });
    const name = fc.string({ unit: fc.constantFrom("a", "b", "."), maxLength: 10 });
    fc.assert(
      fc.property(text, name, (pattern, subject) => {
        const regex = pattern.replaceAll(".", "\\.").replaceAll("*", ".*");
        expect(matches(pattern, subject)).toBe(new RegExp(`^(.*\\.)?${regex}$`).test(subject));
      }),
      { numRuns: 5000 },
    );
  });

  test("cost no more than length by length, however hostile", () => {
    expect(matches(`${"*a".repeat(2000)}b`, "a".repeat(4000))).toBe(false);
  });
});

describe("wrappers", () => {
  const known = new Set(["m.0", "m.2", "m.block.0", "m.head"]);

  test("a prefix is found on our side, on theirs, or on both", () => {
    expect(wrapperOf(["0", "2"], known)).toEqual({ from: "", to: "m." });
    expect(wrapperOf(["model.0", "model.2"], known)).toEqual({ from: "model.", to: "m." });
    expect(wrapperOf(["m.0"], known)).toEqual({ from: "", to: "" });
  });

  test("one prefix must do for all names, or there is none", () => {
    expect(wrapperOf(["0", "gone"], known)).toBeUndefined();
    expect(wrapperOf(["block.0", "head"], known)).toEqual({ from: "", to: "m." });
  });
});
