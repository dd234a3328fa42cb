import "@tensorflow/tfjs-backend-cpu";
import "@tensorflow/tfjs-backend-wasm";
import * as tf from "@tensorflow/tfjs-core";
import { create, encode } from "@tutti/wire/message";
import { AttributeProto_AttributeType as Kind, ModelProtoSchema } from "@tutti/wire/onnx";
import { InferenceSession, Tensor as OrtTensor } from "onnxruntime-node";
import { expect } from "vitest";
import { tfjsEngine } from "../../src/engines/tfjs/engine.ts";
import type { Attribute, DType, Node, Static, Tensor, TracedGraph } from "../../src/ir.ts";

export { tf };
export const BACKENDS = ["wasm", "cpu"] as const;

export type AttributeInit =
  | number
  | string
  | readonly number[]
  | { float: number }
  | { floats: readonly number[] }
  | { strings: readonly string[] }
  | Tensor;

/** One node, its inputs by value: `constant` ones are initializers, the others are fed. */
export type Case = {
  op: string;
  opset?: number;
  domain?: string;
  attributes?: Record<string, AttributeInit>;
  /** undefined stands for an absent optional input. */
  inputs: readonly (Tensor | undefined)[];
  /** Indices of the inputs that are initializers. */
  constant?: readonly number[];
  outputs?: number;
};

const TYPES = {
  float32: 1,
  uint8: 2,
  int8: 3,
  int32: 6,
  int64: 7,
  bool: 9,
  float16: 10,
  float64: 11,
} as const;

export const f32 = (shape: readonly number[], values: ArrayLike<number>): Tensor => ({
  dtype: "float32",
  shape,
  data: Float32Array.from(values),
});
export const i64 = (shape: readonly number[], values: readonly number[]): Tensor => ({
  dtype: "int64",
  shape,
  data: BigInt64Array.from(values, BigInt),
});
export const i32 = (shape: readonly number[], values: readonly number[]): Tensor => ({
  dtype: "int32",
  shape,
  data: Int32Array.from(values),
});
export const u8 = (shape: readonly number[], values: readonly number[]): Tensor => ({
  dtype: "uint8",
  shape,
  data: Uint8Array.from(values),
});
export const bool = (shape: readonly number[], values: readonly number[]): Tensor => ({
  dtype: "bool",
  shape,
  data: Uint8Array.from(values),
});

function attribute(value: AttributeInit): Attribute {
  if (typeof value === "number") return { kind: "int", value };
  if (typeof value === "string") return { kind: "string", value };
  if ("float" in value) return { kind: "float", value: value.float };
  if ("floats" in value) return { kind: "floats", value: value.floats };
  if ("strings" in value) return { kind: "strings", value: value.strings };
  if ("dtype" in value) return { kind: "tensor", value };
  return { kind: "ints", value };
}

function nodeOf(test: Case): Node {
  return {
    op: test.op,
    domain: test.domain ?? "",
    name: "it",
    inputs: test.inputs.map((input, index) => (input ? `x${index}` : "")),
    outputs: Array.from({ length: test.outputs ?? 1 }, (_, index) => `y${index}`),
    attributes: new Map(
      Object.entries(test.attributes ?? {}).map(([name, value]) => [name, attribute(value)]),
    ),
    metadata: new Map(),
  };
}

/** Bytes of the one-node model: what the reference runs. */
function modelOf(test: Case): Uint8Array {
  const named = test.inputs.flatMap((input, index) => (input ? [{ name: `x${index}`, index, input }] : []));
  const isHeld = ({ index }: { index: number }): boolean => test.constant?.includes(index) ?? false;
  const model = create(ModelProtoSchema, {
    irVersion: 8n,
    opsetImport: [{ domain: "", version: BigInt(test.opset ?? 17) }],
    graph: {
      name: "one",
      node: [
        {
          opType: test.op,
          domain: test.domain ?? "",
          name: "it",
          input: [...nodeOf(test).inputs],
          output: [...nodeOf(test).outputs],
          attribute: Object.entries(test.attributes ?? {}).map(([name, value]) =>
            protoAttribute(name, value),
          ),
        },
      ],
      initializer: named.filter(isHeld).map(({ name, input }) => ({ name, ...protoTensor(input) })),
      input: named.filter((it) => !isHeld(it)).map(({ name, input }) => ({ name, type: protoType(input) })),
      output: nodeOf(test).outputs.map((name) => ({ name })),
    },
  });
  return encode(ModelProtoSchema, model);
}

const elementType = (tensor: Tensor): number => TYPES[tensor.dtype as keyof typeof TYPES];

function protoTensor(tensor: Tensor) {
  const data = tensor.data as Float32Array;
  const rawData = new Uint8Array(data.buffer, data.byteOffset, data.byteLength).slice();
  return { dims: tensor.shape.map(BigInt), dataType: elementType(tensor), rawData };
}

function protoType(tensor: Tensor) {
  const dim = tensor.shape.map((size) => ({ value: { case: "dimValue" as const, value: BigInt(size) } }));
  return { value: { case: "tensorType" as const, value: { elemType: elementType(tensor), shape: { dim } } } };
}

function protoAttribute(name: string, value: AttributeInit) {
  const it = attribute(value);
  switch (it.kind) {
    case "int":
      return { name, type: Kind.INT, i: BigInt(it.value) };
    case "float":
      return { name, type: Kind.FLOAT, f: it.value };
    case "string":
      return { name, type: Kind.STRING, s: new TextEncoder().encode(it.value) };
    case "ints":
      return { name, type: Kind.INTS, ints: it.value.map(BigInt) };
    case "floats":
      return { name, type: Kind.FLOATS, floats: [...it.value] };
    case "strings":
      return { name, type: Kind.STRINGS, strings: it.value.map((text) => new TextEncoder().encode(text)) };
    case "tensor":
      return { name, type: Kind.TENSOR, t: protoTensor(it.value) };
    default:
      throw new Error(`no test has ${it.kind}`);
  }
}

/** What onnxruntime makes of the one-node model. */
export async function reference(test: Case): Promise<Map<string, Tensor>> {
  const session = await InferenceSession.create(modelOf(test), { logSeverityLevel: 4, intraOpNumThreads: 1 });
  const feeds: Record<string, OrtTensor> = {};
  for (const name of session.inputNames) {
    const input = test.inputs[Number(name.slice(1))]!;
    feeds[name] = new OrtTensor(input.dtype as "float32", input.data as Float32Array, [...input.shape]);
  }
  const results = await session.run(feeds);
  await session.release();
  return new Map(
    Object.entries(results).map(([name, { type, dims, data }]) => [
      name,
      { dtype: type as DType, shape: [...dims], data: data as Float32Array },
    ]),
  );
}

/** The traced one-node graph; statics of the outputs are what the reference returned. */
export function graphOf(test: Case, outputs: ReadonlyMap<string, Static>): TracedGraph {
  const named = test.inputs.flatMap((input, index) => (input ? [{ name: `x${index}`, index, input }] : []));
  const held = named.filter(({ index }) => test.constant?.includes(index));
  const fed = named.filter(({ index }) => !test.constant?.includes(index));
  const statics = new Map<string, Static>(named.map(({ name, input }) => [name, input]));
  for (const [name, { dtype, shape }] of outputs) statics.set(name, { dtype, shape });
  return {
    name: "one",
    opset: test.opset ?? 17,
    inputs: fed.map(({ name, input }) => ({ name, dtype: input.dtype, shape: input.shape })),
    outputs: [...outputs].map(([name, { dtype, shape }]) => ({ name, dtype, shape })),
    initializers: new Map(held.map(({ name, input }) => [name, input])),
    nodes: [nodeOf(test)],
    statics,
  };
}

/** Runs a case on a backend and asserts that no tensor is left behind. */
export async function onTfjs(backend: string, test: Case, outputs: ReadonlyMap<string, Static>) {
  await tf.setBackend(backend);
  const before = tf.memory().numTensors;
  const graph = graphOf(test, outputs);
  const program = await tfjsEngine(tf, backend).load(graph);
  const loaded = tf.memory().numTensors;
  const feeds = new Map(graph.inputs.map(({ name }) => [name, test.inputs[Number(name.slice(1))]!]));
  const results = await program.step(feeds);
  expect(tf.memory().numTensors, "tensors after a step").toBe(loaded);
  await program.dispose();
  expect(tf.memory().numTensors, "tensors after dispose").toBe(before);
  return results;
}

/** Equal dtype and shape, values within `tolerance` (absolute, or relative above 1); NaN equals NaN. */
export function expectClose(got: Tensor, wanted: Tensor, what: string, tolerance = 1e-4): void {
  expect({ dtype: got.dtype, shape: got.shape }, what).toEqual({ dtype: wanted.dtype, shape: wanted.shape });
  const [a, b] = [
    Array.from(got.data as Float32Array, Number),
    Array.from(wanted.data as Float32Array, Number),
  ];
  const wrong = b.findIndex((value, at) => !isClose(a[at]!, value, tolerance));
  if (wrong >= 0) expect.fail(`${what}[${wrong}]: got ${a[wrong]}, wanted ${b[wrong]}`);
}

function isClose(got: number, wanted: number, tolerance: number): boolean {
  if (Object.is(got, wanted) || got === wanted) return true;
  return Math.abs(got - wanted) <= tolerance * Math.max(1, Math.abs(wanted));
}

/** The whole check: onnxruntime and tfjs agree on `test`, on every backend, inputs fed or held as it says. */
export async function agrees(test: Case, tolerance = 1e-4): Promise<void> {
  const wanted = await reference(test);
  for (const backend of BACKENDS) {
    const got = await onTfjs(backend, test, wanted);
    for (const [name, tensor] of wanted) {
      const shapes = test.inputs.map((input) => input && `${input.dtype}[${input.shape}]`).join(" ");
      const attributes = JSON.stringify(test.attributes ?? {}, (_, value) =>
        typeof value === "bigint" ? `${value}` : value,
      );
      expectClose(got.get(name)!, tensor, `${backend} ${test.op} ${shapes} ${attributes} ${name}`, tolerance);
    }
  }
}
