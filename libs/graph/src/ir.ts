import { assert } from "@tutti/foundation/check";

/**
 * The graph as we hold it between steps: ONNX's own words, decoded once and never mutated.
 * Every step is a function Graph → Graph (docs/architecture.md, Training is an ONNX graph).
 */

/** Element types we compute with. Weights in other types are dequantised or widened when they are read. */
export type DType =
  | "float32"
  | "float64"
  | "float16"
  | "int64"
  | "int32"
  | "uint8"
  | "int8"
  | "bool"
  | "string";

export type TensorData =
  | Float32Array
  | Float64Array
  | BigInt64Array
  | Int32Array
  | Uint16Array
  | Uint8Array
  | Int8Array
  | readonly string[];

/** A dense tensor in row-major order; `float16` holds raw bits in a Uint16Array, `bool` bytes 0 or 1. */
export type Tensor = { readonly dtype: DType; readonly shape: readonly number[]; readonly data: TensorData };

/** An attribute's value in JavaScript's own types; ints are numbers where safe (INT64_MAX is clamped). */
export type Attribute =
  | { readonly kind: "int"; readonly value: number }
  | { readonly kind: "float"; readonly value: number }
  | { readonly kind: "string"; readonly value: string }
  | { readonly kind: "ints"; readonly value: readonly number[] }
  | { readonly kind: "floats"; readonly value: readonly number[] }
  | { readonly kind: "strings"; readonly value: readonly string[] }
  | { readonly kind: "tensor"; readonly value: Tensor }
  | { readonly kind: "graph"; readonly value: Graph };

export type Node = {
  readonly op: string;
  /** "" is the ONNX standard domain. */
  readonly domain: string;
  readonly name: string;
  /** Value names; "" marks an absent optional input. */
  readonly inputs: readonly string[];
  readonly outputs: readonly string[];
  readonly attributes: ReadonlyMap<string, Attribute>;
  /** Exporter metadata, where module names are found (docs/onnx.md, Fields and names). */
  readonly metadata: ReadonlyMap<string, string>;
};

/** A dimension is a size, or a name such as "batch", or null where the file says nothing. */
export type Dimension = number | string | null;

export type ValueInfo = {
  readonly name: string;
  readonly dtype: DType;
  readonly shape: readonly Dimension[] | null;
};

/** What is known of a value once sizes are bound. */
export type Static = { readonly dtype: DType; readonly shape: readonly number[] };

export type Graph = {
  readonly name: string;
  /** Version of the standard operator set the nodes are written in. */
  readonly opset: number;
  /** Inputs that must be fed (initializers are not among them). */
  readonly inputs: readonly ValueInfo[];
  readonly outputs: readonly ValueInfo[];
  /** Constant tensors by value name. */
  readonly initializers: ReadonlyMap<string, Tensor>;
  /** In an order in which every node follows the nodes it reads. */
  readonly nodes: readonly Node[];
};

/** A graph in which every value has a static dtype and shape: what `trace` returns and later steps keep. */
export type TracedGraph = Graph & { readonly statics: ReadonlyMap<string, Static> };

/** Feeds and results of one execution, by value name. */
export type Tensors = ReadonlyMap<string, Tensor>;

/** One contract for every engine: same graph, same feeds, same numbers to 1e-4. */
export type Engine = {
  /** Which engine and backend, as shown to people: "tfjs/wasm", "onnxruntime/cpu". */
  readonly name: string;
  load(graph: TracedGraph): Promise<Program>;
};

export type Program = {
  /**
   * Runs the whole graph once; every graph input must be fed with its static shape. An engine may read the
   * feeds' arrays at any time until the step resolves: they must not change before.
   */
  step(feeds: Tensors): Promise<Tensors>;
  /** Frees what the program holds; again is harmless. A step after it is a Fault("cancelled"). */
  dispose(): Promise<void>;
};

/** Number of elements of a shape; 1 for a scalar. */
export function sizeOf(shape: readonly number[]): number {
  return shape.reduce((product, dimension) => product * dimension, 1);
}

/** A float32 tensor over `data`, which has as many elements as the shape says. */
export function float32(shape: readonly number[], data: Float32Array): Tensor {
  assert(data.length === sizeOf(shape), `float32: [${shape}] of ${data.length} values`);
  return { dtype: "float32", shape, data };
}
