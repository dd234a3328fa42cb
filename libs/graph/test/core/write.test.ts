import { decode, encode } from "@tutti/wire/message";
import { ModelProtoSchema } from "@tutti/wire/onnx";
import fc from "fast-check";
import { expect, test } from "vitest";
import type { Attribute, DType, Graph, Node, Tensor } from "../../src/ir.ts";
import { read } from "../../src/read.ts";
import { write } from "../../src/write.ts";
import { shapes, tensor } from "../arbitrary.ts";
import { runs } from "../runs.ts";

const DTYPES: DType[] = ["float32", "float64", "float16", "int64", "int32", "uint8", "int8", "bool"];

const anyTensor: fc.Arbitrary<Tensor> = fc.oneof(
  fc
    .tuple(fc.constantFrom(...DTYPES), shapes({ min: 0, max: 3 }))
    .chain(([dtype, shape]) => tensor({ dtype, shape }, { min: dtype === "uint8" ? 0 : -8, max: 8 })),
  fc.array(fc.string()).map((data): Tensor => ({ dtype: "string", shape: [data.length], data })),
);

const integer = fc.maxSafeInteger();
const float = fc.float({ noNaN: true });
const simple: fc.Arbitrary<Attribute> = fc.oneof(
  integer.map((value) => ({ kind: "int" as const, value })),
  float.map((value) => ({ kind: "float" as const, value })),
  fc.string().map((value) => ({ kind: "string" as const, value })),
  fc.array(integer).map((value) => ({ kind: "ints" as const, value })),
  fc.array(float).map((value) => ({ kind: "floats" as const, value })),
  fc.array(fc.string()).map((value) => ({ kind: "strings" as const, value })),
  anyTensor.map((value) => ({ kind: "tensor" as const, value })),
);

/** A chain of nodes, each reading some earlier values, with every kind of attribute and tensor. */
function graphs(depth: number, prefix = ""): fc.Arbitrary<Graph> {
  const inner =
    depth > 0 ? graphs(depth - 1, `${prefix}i`).map((value) => ({ kind: "graph" as const, value })) : simple;
  const attribute = fc.oneof(
    { weight: 6, arbitrary: simple },
    { weight: 1, arbitrary: inner as fc.Arbitrary<Attribute> },
  );
  const attributes = fc.uniqueArray(fc.tuple(fc.string({ minLength: 1 }), attribute), {
    selector: ([name]) => name,
    maxLength: 3,
  });
  const draft = fc.record({
    op: fc.string({ minLength: 1 }).filter((op) => op !== "Constant"),
    domain: fc.constantFrom("", "com.microsoft"),
    name: fc.string(),
    reads: fc.array(fc.nat(), { maxLength: 3 }),
    attributes,
    metadata: fc.uniqueArray(fc.tuple(fc.string(), fc.string()), { selector: ([key]) => key, maxLength: 2 }),
  });
  const drafts = fc.array(draft, { minLength: 1, maxLength: 4 });
  return fc
    .tuple(drafts, fc.array(anyTensor, { maxLength: 2 }), fc.integer({ min: 7, max: 28 }))
    .map(([list, tensors, opset]) => {
      const values = [`${prefix}x`, ...tensors.map((_, i) => `${prefix}w${i}`)];
      const nodes = list.map(({ reads, attributes, metadata, ...rest }, i): Node => {
        const inputs = reads.map((at) => values[at % values.length]!);
        values.push(`${prefix}n${i}`);
        return {
          ...rest,
          inputs,
          outputs: [`${prefix}n${i}`],
          attributes: new Map(attributes),
          metadata: new Map(metadata),
        };
      });
      return {
        name: "graph",
        opset,
        inputs: [{ name: `${prefix}x`, dtype: "float32", shape: ["batch", null, 3] }],
        outputs: [{ name: values.at(-1)!, dtype: "int64", shape: null }],
        initializers: new Map(tensors.map((tensor, i) => [`${prefix}w${i}`, tensor])),
        nodes,
      } satisfies Graph;
    });
}

/** Inner graphs are written in the operator set of the whole. */
function inOpset(graph: Graph, opset: number): Graph {
  const attribute = (a: Attribute): Attribute =>
    a.kind === "graph" ? { kind: "graph", value: inOpset(a.value, opset) } : a;
  const nodes = graph.nodes.map((node) => ({
    ...node,
    attributes: new Map([...node.attributes].map(([name, a]) => [name, attribute(a)])),
  }));
  return { ...graph, opset, nodes };
}

test("read(write(graph)) is the graph", () => {
  fc.assert(
    fc.property(graphs(1), (drawn) => {
      const graph = inOpset(drawn, drawn.opset);
      expect(read(write(graph)).graph).toEqual(graph);
    }),
    { numRuns: runs(100) },
  );
});

test("the bytes are those of the whole message encoded at once", () => {
  fc.assert(
    fc.property(graphs(1), (drawn) => {
      const bytes = write(inOpset(drawn, drawn.opset));
      expect(encode(ModelProtoSchema, decode(ModelProtoSchema, bytes, bytes.length))).toEqual(bytes);
    }),
    { numRuns: runs(50) },
  );
});

test("weights are views into the file where they lie aligned, never grown", () => {
  const data = new Float32Array(1000).fill(1);
  const graph: Graph = {
    name: "graph",
    opset: 17,
    inputs: [],
    outputs: [{ name: "w", dtype: "float32", shape: [1000] }],
    initializers: new Map([["w", { dtype: "float32", shape: [1000], data }]]),
    nodes: [],
  };
  const bytes = write(graph);
  // The same file at each of four offsets: at one of them the weight lies aligned.
  const shared = [0, 1, 2, 3].map((offset) => {
    const room = new Uint8Array(bytes.length + 4);
    room.set(bytes, offset);
    const { initializers } = read(room.subarray(offset, offset + bytes.length)).graph;
    const held = initializers.get("w")!.data as Float32Array;
    expect(held).toEqual(data);
    return held.buffer === room.buffer;
  });
  expect(shared.filter(Boolean)).toEqual([true]);
});
