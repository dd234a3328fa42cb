import { Fault } from "@tutti/foundation/fault";
import { create, type DescMessage, encode, type MessageInitShape } from "@tutti/wire/message";
import {
  type GraphProtoSchema,
  ModelProtoSchema,
  TensorProto_DataLocation,
  type TensorProtoSchema,
  AttributeProto_AttributeType as Type,
} from "@tutti/wire/onnx";
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { type ReadOptions, read } from "../../src/read.ts";
import { numbers } from "../../src/tensor.ts";
import { runs } from "../runs.ts";

/** Plain fields of a message, without the message itself. */
type Init<S extends DescMessage> = Extract<MessageInitShape<S>, { $typeName?: never }>;
type GraphInit = Init<typeof GraphProtoSchema>;
type TensorInit = Init<typeof TensorProtoSchema>;

function model(graph: GraphInit, opset = 17, extra: { functions?: { name: string }[] } = {}): Uint8Array {
  const opsetImport = [{ domain: "", version: BigInt(opset) }];
  return encode(ModelProtoSchema, create(ModelProtoSchema, { irVersion: 8n, opsetImport, graph, ...extra }));
}

function value(name: string, dims: readonly (number | string)[] = [2], elemType = 1) {
  const dim = dims.map((size) =>
    typeof size === "number"
      ? { value: { case: "dimValue" as const, value: BigInt(size) } }
      : { value: { case: "dimParam" as const, value: size } },
  );
  return { name, type: { value: { case: "tensorType" as const, value: { elemType, shape: { dim } } } } };
}

const relu = (input: string, output: string) => ({
  opType: "Relu",
  name: `${output}?`,
  input: [input],
  output: [output],
});
const simple: GraphInit = { input: [value("x")], output: [value("y")], node: [relu("x", "y")] };

/** The message of the Fault that reading must end in. */
function fault(bytes: Uint8Array, options?: ReadOptions): string {
  try {
    read(bytes, options);
  } catch (error) {
    if (error instanceof Fault) return `${error.code}: ${error.message}`;
    throw error;
  }
  return "no fault";
}

function withTensor(tensor: TensorInit): Uint8Array {
  return model({ ...simple, initializer: [{ name: "w", ...tensor }] });
}

describe("storage of tensors (onnx.proto3, TensorProto)", () => {
  const bytes = (data: ArrayBufferView) =>
    new Uint8Array(data.buffer as ArrayBuffer, data.byteOffset, data.byteLength);
  const cases: readonly [string, TensorInit, string, readonly number[]][] = [
    [
      "float raw",
      { dataType: 1, dims: [2n], rawData: bytes(Float32Array.of(1.5, -2)) },
      "float32",
      [1.5, -2],
    ],
    ["float typed", { dataType: 1, dims: [2n], floatData: [1.5, -2] }, "float32", [1.5, -2]],
    ["double raw", { dataType: 11, dims: [1n], rawData: bytes(Float64Array.of(0.1)) }, "float64", [0.1]],
    ["double typed", { dataType: 11, dims: [1n], doubleData: [0.1] }, "float64", [0.1]],
    ["int64 raw", { dataType: 7, dims: [1n], rawData: bytes(BigInt64Array.of(-7n)) }, "int64", [-7]],
    ["int64 typed", { dataType: 7, dims: [2n], int64Data: [-7n, 8n] }, "int64", [-7, 8]],
    ["int32 typed", { dataType: 6, dims: [2n], int32Data: [-7, 8] }, "int32", [-7, 8]],
    ["uint8 typed", { dataType: 2, dims: [2n], int32Data: [200, 8] }, "uint8", [200, 8]],
    ["int8 typed", { dataType: 3, dims: [2n], int32Data: [-100, 8] }, "int8", [-100, 8]],
    ["bool typed", { dataType: 9, dims: [2n], int32Data: [1, 0] }, "bool", [1, 0]],
    [
      "half raw",
      { dataType: 10, dims: [2n], rawData: bytes(Uint16Array.of(0x3c00, 0xc000)) },
      "float16",
      [1, -2],
    ],
    ["half typed", { dataType: 10, dims: [2n], int32Data: [0x3c00, 0xc000] }, "float16", [1, -2]],
    [
      "bfloat16 raw",
      { dataType: 16, dims: [2n], rawData: bytes(Uint16Array.of(0x3f80, 0xc000)) },
      "float32",
      [1, -2],
    ],
    ["bfloat16 typed", { dataType: 16, dims: [2n], int32Data: [0x3f80, 0xc000] }, "float32", [1, -2]],
    ["uint4 raw", { dataType: 21, dims: [3n], rawData: Uint8Array.of(0xf0, 0x07) }, "uint8", [0, 15, 7]],
    ["int4 raw", { dataType: 22, dims: [3n], rawData: Uint8Array.of(0xf8, 0x07) }, "int8", [-8, -1, 7]],
    ["int4 typed", { dataType: 22, dims: [4n], int32Data: [0xf8, 0x17] }, "int8", [-8, -1, 7, 1]],
    [
      "uint2 raw",
      { dataType: 25, dims: [5n], rawData: Uint8Array.of(0b11100100, 2) },
      "uint8",
      [0, 1, 2, 3, 2],
    ],
    ["int2 raw", { dataType: 26, dims: [4n], rawData: Uint8Array.of(0b11100100) }, "int8", [0, 1, -2, -1]],
    ["scalar", { dataType: 1, rawData: bytes(Float32Array.of(3)) }, "float32", [3]],
    ["empty", { dataType: 1, dims: [0n, 4n] }, "float32", []],
  ];
  test.each(cases)("%s", (_, tensor, dtype, values) => {
    const got = read(withTensor(tensor)).graph.initializers.get("w")!;
    expect({ dtype: got.dtype, values: numbers(got) }).toEqual({ dtype, values });
  });

  test("text is decoded from UTF-8", () => {
    const stringData = ["a", "é"].map((text) => new TextEncoder().encode(text));
    const got = read(withTensor({ dataType: 8, dims: [2n], stringData })).graph.initializers.get("w")!;
    expect(got.data).toEqual(["a", "é"]);
  });

  test("external data: refused, unless someone resolves the location", () => {
    const externalData = [
      { key: "location", value: "w.bin" },
      { key: "offset", value: "4" },
      { key: "length", value: "8" },
    ];
    const dataLocation = TensorProto_DataLocation.EXTERNAL;
    const file = withTensor({ dataType: 1, dims: [2n], dataLocation, externalData });
    expect(fault(file)).toMatch(/^refused: initializer w: external data: got w.bin/);
    const data = new Uint8Array(Float32Array.of(9, 1, 2, 9).buffer);
    const got = read(file, { externalData: (location) => (location === "w.bin" ? data : new Uint8Array()) });
    expect(numbers(got.graph.initializers.get("w")!)).toEqual([1, 2]);
    expect(fault(file, { externalData: () => data.subarray(0, 8) })).toMatch(/within 8 bytes, got 4..12/);
  });
});

describe("graphs", () => {
  test("initializers that old files list as inputs need not be fed", () => {
    const initializer = [{ name: "w", dataType: 1, dims: [1n], floatData: [1] }];
    const { graph } = read(model({ ...simple, input: [value("x"), value("w", [1])], initializer }));
    expect(graph.inputs.map(({ name }) => name)).toEqual(["x"]);
  });

  test("Constant nodes become initializers, in each of their forms", () => {
    const constant = (name: string, attribute: object) => ({
      opType: "Constant",
      output: [name],
      attribute: [attribute],
    });
    const { graph } = read(
      model({
        ...simple,
        node: [
          constant("t", { name: "value", type: Type.TENSOR, t: { dataType: 1, dims: [1n], floatData: [5] } }),
          constant("f", { name: "value_float", type: Type.FLOAT, f: 0.5 }),
          constant("i", { name: "value_ints", type: Type.INTS, ints: [1n, 2n ** 63n - 1n] }),
          relu("x", "y"),
        ],
      }),
    );
    expect(graph.nodes.map(({ op }) => op)).toEqual(["Relu"]);
    expect(numbers(graph.initializers.get("t")!)).toEqual([5]);
    expect(graph.initializers.get("f")).toMatchObject({ dtype: "float32", shape: [] });
    expect(numbers(graph.initializers.get("i")!)).toEqual([1, Number.MAX_SAFE_INTEGER]);
  });

  test("nodes are put in order, whatever the file's", () => {
    const node = [relu("b", "y"), relu("a", "b"), relu("x", "a")];
    const { graph } = read(model({ ...simple, node }));
    expect(graph.nodes.map(({ outputs }) => outputs[0])).toEqual(["a", "b", "y"]);
  });

  test("an older operator set, where all operators have always meant the same", () => {
    const not = { ...relu("x", "y"), opType: "Not" };
    const { graph } = read(model({ ...simple, node: [not] }, 1));
    expect([graph.opset, graph.nodes.map(({ op }) => op)]).toEqual([6, ["Not"]]);
  });

  test("named and unknown dimensions", () => {
    const { graph } = read(model({ ...simple, input: [value("x", ["batch", -1, 3])] }));
    expect(graph.inputs[0]!.shape).toEqual(["batch", null, 3]);
  });
});

/**
 * ModelProto.graph(7) > node(1) > attribute(5) > g(6) > node(1) > …, by hand, since the encoder would
 * run out of stack.
 */
function nest(levels: number): Uint8Array {
  const tags = [7, ...Array.from({ length: levels }, (_, i) => [1, 5, 6][i % 3]!)].map(
    (field) => (field << 3) | 2,
  );
  const bytes: number[] = [];
  for (const tag of tags.toReversed()) {
    const length: number[] = [];
    for (let left = bytes.length; length.length === 0 || left > 0; left = Math.floor(left / 128))
      length.push((left % 128) | (left >= 128 ? 128 : 0));
    // Built back to front, so that each level costs its header only.
    bytes.push(...length.toReversed(), tag);
  }
  return Uint8Array.from(bytes.reverse());
}

describe("refusals name what is wrong", () => {
  const cases: readonly [string, Uint8Array, RegExp][] = [
    ["not protobuf", Uint8Array.of(1, 2, 3), /^bad-message: onnx.ModelProto/],
    ["no graph", encode(ModelProtoSchema, create(ModelProtoSchema, {})), /model: expected a graph/],
    ["old operator set", model(simple, 3), /operator set: expected version 6 to 28, got 3/],
    [
      "a cycle",
      model({ ...simple, node: [relu("b", "a"), relu("a", "b"), relu("x", "y")] }),
      /no cycles.*through/,
    ],
    ["an undefined input", model({ ...simple, node: [relu("nowhere", "y")] }), /Relu "y\?": input nowhere/],
    ["an undefined output", model({ ...simple, output: [value("z")] }), /output z/],
    [
      "a name twice",
      model({ ...simple, node: [relu("x", "y"), relu("x", "y")] }),
      /value y: expected one definition/,
    ],
    ["an input made again", model({ ...simple, node: [relu("x", "x"), relu("x", "y")] }), /value x/],
    ["functions", model(simple, 17, { functions: [{ name: "f" }] }), /^unsupported: model functions: got f/],
    [
      "a domain",
      model({ ...simple, node: [{ ...relu("x", "y"), domain: "evil" }] }),
      /evil.Relu "y\?".*got evil/,
    ],
    ["sparse weights", model({ ...simple, sparseInitializer: [{ values: { name: "s" } }] }), /sparse.*got s/],
    ["a dtype", withTensor({ dataType: 17 }), /initializer w: element type.*got ONNX data type 17/],
    [
      "a dimension bomb",
      withTensor({ dataType: 1, dims: [2n ** 40n, 2n ** 40n] }),
      /at most 2147483647 elements/,
    ],
    ["a negative dimension", withTensor({ dataType: 1, dims: [-1n] }), /initializer w: dimensions/],
    [
      "too few bytes",
      withTensor({ dataType: 1, dims: [2n], rawData: new Uint8Array(7) }),
      /expected 8 bytes, got 7/,
    ],
    [
      "a quantiser to 4 bits",
      model({
        ...simple,
        initializer: [
          { name: "scale", dataType: 1, floatData: [1] },
          { name: "zero", dataType: 22, dims: [], rawData: Uint8Array.of(3) },
        ],
        node: [{ opType: "QuantizeLinear", name: "q", input: ["x", "scale", "zero"], output: ["y"] }],
      }),
      /unsupported: QuantizeLinear "q": input 2: .*2 or 4 bits/,
    ],
    [
      "half a byte missing",
      withTensor({ dataType: 22, dims: [3n], rawData: Uint8Array.of(1) }),
      /2 bytes, got 1/,
    ],
    ["too few values", withTensor({ dataType: 1, dims: [2n], floatData: [1] }), /expected 2 elements, got 1/],
    ["too many axes", withTensor({ dataType: 1, dims: new Array(40).fill(1n) }), /rank: expected ≤ 32/],
    [
      "broadcasting of old",
      model({ ...simple, node: [{ ...relu("x", "y"), attribute: [{ name: "broadcast", i: 1n }] }] }, 6),
      /attribute broadcast: expected operator set 7/,
    ],
    [
      "an attribute by reference",
      model({ ...simple, node: [{ ...relu("x", "y"), attribute: [{ name: "alpha", refAttrName: "a" }] }] }),
      /Relu "y\?" \(opset 17\): attribute alpha/,
    ],
  ];
  test.each(cases)("%s", (_, bytes, message) => {
    expect(fault(bytes)).toMatch(message);
  });

  test("more nodes than allowed, and deeper graphs", () => {
    const node = [relu("x", "a"), relu("a", "y")];
    expect(fault(model({ ...simple, node }), { limits: { nodes: 1 } })).toMatch(/nodes: expected ≤ 1, got 2/);
    let inner: GraphInit = { output: [value("x")] };
    for (let depth = 0; depth < 10; depth++)
      inner = {
        output: [value("x")],
        node: [{ opType: "If", attribute: [{ name: "then_branch", type: Type.GRAPH, g: inner }] }],
      };
    expect(fault(model({ ...inner, input: [value("x")] }))).toMatch(
      /graphs inside graphs: expected ≤ 8 deep/,
    );
    // So deep that finding out could exhaust the stack: length-delimited fields inside each other.
    for (const levels of [100, 1_000, 10_000, 60_000]) expect(fault(nest(levels))).not.toBe("no fault");
  });
});

test("hostile bytes end in a Fault and in nothing else", () => {
  const whole = model({
    ...simple,
    initializer: [{ name: "w", dataType: 1, dims: [2n], floatData: [1, 2] }],
  });
  const edit = fc.array(fc.tuple(fc.nat(whole.length - 1), fc.nat(255)), { minLength: 1, maxLength: 4 });
  fc.assert(
    fc.property(edit, fc.nat(whole.length), (edits, cut) => {
      const bytes = whole.slice(0, cut < 4 ? whole.length : cut);
      for (const [at, byte] of edits) if (at < bytes.length) bytes[at] = byte;
      fault(bytes);
    }),
    { numRuns: runs(1000) },
  );
});
