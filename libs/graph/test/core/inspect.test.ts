import { readFileSync } from "node:fs";
import { seededRandom } from "@tutti/foundation/random";
import { describe, expect, test } from "vitest";
import { barriers, inspect } from "../../src/inspect.ts";
import type { Node, TracedGraph } from "../../src/ir.ts";
import { mlp } from "../../src/make/mlp.ts";
import { read } from "../../src/read.ts";
import { write } from "../../src/write.ts";
import { shared } from "../shared.ts";

describe("inspect", () => {
  test("counts what a model holds", () => {
    const graph = mlp({ inputs: 6, hidden: [8], outputs: 4, random: seededRandom(1) });
    const found = inspect(read(write(graph)));
    // 6·8 + 8 and 8·4 + 4, four bytes each.
    expect([found.parameters, found.bytes]).toEqual([92, 368]);
    expect(found.dtypes).toEqual({ float32: { tensors: 4, elements: 92 } });
    expect(Object.values(found.operators).reduce((sum, count) => sum + count, 0)).toBe(found.nodes);
    expect(found.inputs.map(({ shape }) => shape)).toEqual([["batch", 6]]);
    expect(found.opset).toBe(graph.opset);
    expect(found.quantised).toEqual({ operators: [], values: false });
    expect(JSON.parse(JSON.stringify(found))).toEqual(found);
  });

  const folder = shared("conformance/quantised");
  test.skipIf(!folder).each([
    ["dyn-int8", true, "DynamicQuantizeLinear"],
    ["qdq-int8", true, "QuantizeLinear"],
    ["nbits4", false, "com.microsoft::MatMulNBits"],
    ["fp16", false, undefined],
  ] as const)("%s: values rounded as it runs: %s", (file, values, operator) => {
    const { quantised } = inspect(read(new Uint8Array(readFileSync(`${folder}/bert.${file}.onnx`))));
    expect(quantised.values).toBe(values);
    if (operator) expect(quantised.operators).toContain(operator);
    else expect(quantised.operators).toEqual([]);
  });
});

describe("barriers", () => {
  const node = (op: string, input: string, output: string): Node => ({
    ...{ op, domain: "", name: op, inputs: [input], outputs: [output] },
    ...{ attributes: new Map(), metadata: new Map() },
  });
  const info = (name: string, dtype: "float32" | "int64" = "float32") => ({ name, dtype, shape: [2] });

  test("a node without a gradient between floats is one; of constants or to integers it is none", () => {
    const values = [info("x"), info("a"), info("c"), info("i", "int64"), info("k"), info("y")];
    const graph: TracedGraph = {
      ...{ name: "g", opset: 17, inputs: [info("x")], outputs: [info("y")], initializers: new Map() },
      nodes: [
        node("Relu", "x", "a"),
        node("NoSuchOperator", "a", "y"),
        node("NoSuchOperator", "k", "c"),
        node("NoSuchOperator", "a", "i"),
      ],
      statics: new Map(values.map((value) => [value.name, value])),
    };
    expect(barriers(graph).map(({ operator, node: where }) => [operator, where.includes("NoSuch")])).toEqual([
      ["NoSuchOperator", true],
    ]);
  });
});
