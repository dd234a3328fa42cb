import { Fault } from "@tutti/foundation/fault";
import { seededRandom } from "@tutti/foundation/random";
import { create, encode, type MessageInitShape } from "@tutti/wire/message";
import { ModelProtoSchema, AttributeProto_AttributeType as Type } from "@tutti/wire/onnx";
import { describe, expect, test } from "vitest";
import { mlp } from "../../src/make/mlp.ts";
import { type ReadOptions, read } from "../../src/read.ts";
import { trace } from "../../src/trace.ts";
import { write } from "../../src/write.ts";

// What a hostile file is told, word for word: these sentences are what people will search for.

type GraphInit = NonNullable<MessageInitShape<typeof ModelProtoSchema>["graph"]>;
type NodeInit = NonNullable<GraphInit["node"]>[number];
type TensorInit = NonNullable<GraphInit["initializer"]>[number];

const node = (opType: string, input: string[], attribute: NodeInit["attribute"] = []): NodeInit => ({
  ...{ opType, name: "it", input, output: ["y"] },
  attribute: attribute!,
});
const dim = (size: number) => ({ value: { case: "dimValue" as const, value: BigInt(size) } });
const value = (name: string, shape = [2, 3]) => ({
  name,
  type: { value: { case: "tensorType" as const, value: { elemType: 1, shape: { dim: shape.map(dim) } } } },
});
const sizes = (...values: number[]): TensorInit => ({
  ...{ name: "s", dataType: 7, dims: [BigInt(values.length)] },
  int64Data: values.map(BigInt),
});
const scalar = (name: string, of: number): TensorInit => ({
  name,
  dataType: 7,
  dims: [],
  int64Data: [BigInt(of)],
});

function file(graph: GraphInit, opset = 17): Uint8Array {
  const base = { input: [value("x")], output: [{ name: "y" }] };
  const opsetImport = [{ domain: "", version: BigInt(opset) }];
  return encode(
    ModelProtoSchema,
    create(ModelProtoSchema, { irVersion: 8n, opsetImport, graph: { ...base, ...graph } }),
  );
}

/** The fault of reading and tracing. Anything else that is thrown comes out as it is. */
function told(bytes: Uint8Array, options?: ReadOptions): string {
  try {
    trace(read(bytes, options).graph);
    return "nothing";
  } catch (error) {
    if (error instanceof Fault) return `${error.code}: ${error.message}`;
    throw error;
  }
}

describe("bombs: a few bytes that ask for a great deal", () => {
  const sum = "sizes ≥ 0 and at most 2147483647 elements";
  const bombs: readonly [string, GraphInit, string][] = [
    [
      "an initializer of 2^62 elements and no data",
      {
        initializer: [{ name: "w", dataType: 1, dims: [2n ** 31n, 2n ** 31n] }],
        node: [node("Relu", ["x"])],
      },
      "bad-input: initializer w: dimensions: expected at most 2147483647 elements, " +
        "got [2147483648,2147483648]",
    ],
    [
      "ConstantOfShape",
      { initializer: [sizes(1e12)], node: [node("ConstantOfShape", ["s"])] },
      `bad-input: ConstantOfShape "it" (opset 17): shape: expected ${sum}, got [1000000000000]`,
    ],
    [
      "Expand",
      { initializer: [sizes(1e9, 2, 3)], node: [node("Expand", ["x", "s"])] },
      `bad-input: Expand "it" (opset 17): shape: expected ${sum}, got [1000000000,2,3]`,
    ],
    [
      "Tile",
      { initializer: [sizes(1e6, 1e6)], node: [node("Tile", ["x", "s"])] },
      `bad-input: Tile "it" (opset 17): shape: expected ${sum}, got [2000000,3000000]`,
    ],
    [
      "Pad",
      { initializer: [sizes(0, 0, 2 ** 40, 0)], node: [node("Pad", ["x", "s"])] },
      `bad-input: Pad "it" (opset 17): shape: expected ${sum}, got [1099511627778,3]`,
    ],
    [
      "Range",
      {
        initializer: [scalar("a", 0), scalar("b", 1e12), scalar("c", 1)],
        node: [node("Range", ["a", "b", "c"])],
      },
      `bad-input: Range "it" (opset 17): shape: expected ${sum}, got [1000000000000]`,
    ],
    [
      "Range without end",
      {
        initializer: [scalar("a", 0), scalar("b", 5), scalar("c", 0)],
        node: [node("Range", ["a", "b", "c"])],
      },
      `bad-input: Range "it" (opset 17): shape: expected ${sum}, got [Infinity]`,
    ],
    [
      "Resize",
      { initializer: [sizes(1e6, 1e6)], node: [node("Resize", ["x", "", "", "s"])] },
      `bad-input: Resize "it" (opset 17): shape: expected ${sum}, got [1000000,1000000]`,
    ],
  ];
  test.each(bombs)("%s", (_, graph, sentence) => {
    expect(told(file(graph))).toBe(sentence);
  });

  test("sizes that stay within the limit are not made either: the node stays", () => {
    const { graph } = read(file({ initializer: [sizes(2e9)], node: [node("ConstantOfShape", ["s"])] }));
    const before = process.memoryUsage().arrayBuffers;
    expect(trace(graph).nodes.map(({ op }) => op)).toEqual(["ConstantOfShape"]);
    expect(process.memoryUsage().arrayBuffers - before).toBeLessThan(2 ** 20);
  });

  test("a million nodes", () => {
    const many = Array.from({ length: 1_000_000 }, (): NodeInit => ({ opType: "R" }));
    expect(told(file({ node: many }))).toBe("bad-input: nodes: expected ≤ 200000, got 1000000");
  });

  test.each(["If", "Loop"])("%s inside %s, a hundred deep", (opType) => {
    let inner: GraphInit = { output: [{ name: "x" }] };
    for (let depth = 0; depth < 100; depth++)
      inner = {
        output: [{ name: "x" }],
        node: [{ opType, attribute: [{ name: "body", type: Type.GRAPH, g: inner }] }],
      };
    expect(told(file(inner))).toMatch("bad-input: graphs inside graphs: expected ≤ 8 deep");
  });
});

describe("graphs that are none", () => {
  const relu = (from: string, to: string): NodeInit => ({ opType: "Relu", input: [from], output: [to] });
  const w: TensorInit = { name: "w", dataType: 1, dims: [1n], floatData: [1] };
  const cases: readonly [string, Uint8Array, string][] = [
    [
      "a cycle",
      file({ node: [relu("b", "a"), relu("a", "b"), relu("x", "y")] }),
      "bad-input: graph: expected no cycles, got a cycle through b, a",
    ],
    [
      "a value made twice",
      file({ node: [relu("x", "y"), relu("x", "y")] }),
      "bad-input: value y: expected one definition, got two",
    ],
    [
      "an initializer twice",
      file({ initializer: [w, w], node: [relu("x", "y")] }),
      "bad-input: value w: expected one definition, got two",
    ],
    [
      "a domain nobody knows",
      file({ node: [{ ...node("Relu", ["x"]), domain: "my.own" }] }),
      'unsupported: my.own.Relu "it" (opset 17): expected a domain of ONNX or com.microsoft, got my.own',
    ],
    [
      "an operator nobody knows",
      file({ node: [node("Nonsense", ["x"])] }),
      'unsupported: Nonsense "it" (opset 17): expected an operator Tutti knows',
    ],
    [
      "an attribute nobody knows",
      file({ node: [node("LeakyRelu", ["x"], [{ name: "slope", type: Type.FLOAT, f: 1 }])] }),
      'unsupported: LeakyRelu "it" (opset 17): attributes: expected one of alpha, got slope',
    ],
    [
      "an attribute of another kind",
      file({ node: [node("Flatten", ["x"], [{ name: "axis", type: Type.FLOAT, f: 1 }])] }),
      'bad-input: Flatten "it" (opset 17): attribute axis: expected int, got float',
    ],
    [
      "an operator set of the past",
      file({ node: [relu("x", "y")] }, 0),
      "unsupported: operator set: expected version 6 to 28, got 0",
    ],
    [
      "an operator set of the future",
      file({ node: [relu("x", "y")] }, 99),
      "unsupported: operator set: expected version 6 to 28, got 99",
    ],
  ];
  test.each(cases)("%s", (_, bytes, sentence) => {
    expect(told(bytes)).toBe(sentence);
  });
});

describe("weights outside the file", () => {
  const outside = (entries: Record<string, string>) => {
    const externalData = Object.entries(entries).map(([key, value]) => ({ key, value }));
    const w: TensorInit = { name: "w", dataType: 1, dims: [2n], dataLocation: 1, externalData };
    return file({ initializer: [w], node: [node("Relu", ["x"])] });
  };
  const cases: readonly [Record<string, string>, string][] = [
    [{ location: "w", offset: "8" }, "bad-input: initializer w: data: expected 8 bytes, got 2"],
    [
      { location: "w", offset: "4", length: "8" },
      "bad-input: initializer w: external data: expected within 10 bytes, got 4..12",
    ],
    [
      { location: "w", offset: "11", length: "0" },
      "bad-input: initializer w: external data: expected within 10 bytes, got 11..11",
    ],
    [{ location: "w", offset: "-4" }, "bad-input: initializer w: offset: expected a natural number, got -4"],
    [
      { location: "w", length: "9".repeat(30) },
      `bad-input: initializer w: length: expected a natural number, got ${"9".repeat(30)}`,
    ],
  ];
  test.each(cases)("%j", (entries, sentence) => {
    expect(told(outside(entries), { externalData: () => new Uint8Array(10) })).toBe(sentence);
  });

  test("nothing is opened unless the caller says how", () => {
    const sentence =
      "refused: initializer w: external data: got ../../etc/passwd. " +
      "Pass `externalData` to read weights kept outside the model file";
    expect(told(outside({ location: "../../etc/passwd" }))).toBe(sentence);
  });
});

test("a file cut off at each sixteenth is refused, and says that it does not decode", () => {
  const bytes = write(mlp({ inputs: 4, hidden: [5], outputs: 3, random: seededRandom("cut") }));
  for (let part = 0; part < 16; part++) {
    const cut = bytes.subarray(0, Math.floor((bytes.length * part) / 16));
    expect(told(cut), `${part}/16`).toMatch(
      /^bad-(message: onnx\.ModelProto: expected protobuf|input: model: expected a graph)/,
    );
  }
});
