import { Fault } from "@tutti/foundation/fault";
import type { InferenceSession, Tensor as OrtTensor } from "onnxruntime-common";
import type { DType, Engine, Program, Static, Tensor, Tensors, TracedGraph } from "../../ir.ts";
import { write } from "../../write.ts";

/** What onnxruntime-node and onnxruntime-web share: pass either module. */
export type Onnxruntime = {
  readonly InferenceSession: {
    create(model: Uint8Array, options?: InferenceSession.SessionOptions): Promise<InferenceSession>;
  };
  // A dtype that is only known at run time needs the widest of the constructor's overloads.
  readonly Tensor: new (
    type: DType,
    data: never,
    dims: readonly number[],
  ) => OrtTensor;
};

export type OnnxruntimeOptions = {
  /**
   * Where to run; the first that works. Defaults to the module's own choice, cpu in Node and wasm in
   * browsers.
   */
  readonly executionProviders?: readonly string[];
  /** Anything else that a session takes, such as threads. */
  readonly session?: Omit<InferenceSession.SessionOptions, "executionProviders">;
};

/** Runs graphs as onnxruntime sessions: the graph is written as a model and loaded from memory. */
export function onnxruntimeEngine(ort: Onnxruntime, options: OnnxruntimeOptions = {}): Engine {
  const { executionProviders, session } = options;
  const chosen = executionProviders
    ? { ...session, executionProviders: [...executionProviders] }
    : { ...session };
  return {
    name: `onnxruntime/${executionProviders?.[0] ?? "cpu"}`,
    load: async (graph) => programOf(ort, graph, await create(ort, write(graph), chosen)),
  };
}

async function create(ort: Onnxruntime, model: Uint8Array, options: InferenceSession.SessionOptions) {
  try {
    return await ort.InferenceSession.create(model, options);
  } catch (cause) {
    const got = cause instanceof Error ? cause.message : String(cause);
    throw new Fault("unsupported", "onnxruntime", { expected: "to load the graph", got, cause });
  }
}

function programOf(ort: Onnxruntime, graph: TracedGraph, session: InferenceSession): Program {
  const running = new Set<Promise<unknown>>();
  let released: Promise<void> | undefined;
  return {
    step: async (feeds) => {
      if (released) throw new Fault("cancelled", `graph ${graph.name}`, { got: "a step after dispose" });
      const inputs = graph.inputs.map(({ name }) => {
        const tensor = fed(feeds, name, graph.statics.get(name)!);
        return [name, new ort.Tensor(tensor.dtype, tensor.data as never, tensor.shape)] as const;
      });
      const run = session.run(Object.fromEntries(inputs));
      running.add(run);
      try {
        const results = await run;
        return new Map(graph.outputs.map(({ name }) => [name, fromOrt(results[name]!, name)]));
      } finally {
        running.delete(run);
      }
    },
    // A session released under a running step takes the process with it.
    dispose: () => {
      released ??= Promise.allSettled(running).then(() => session.release());
      return released;
    },
  };
}

/** The feed for an input, which must have the input's static dtype and shape. */
function fed(feeds: Tensors, name: string, { dtype, shape }: Static): Tensor {
  const tensor = feeds.get(name);
  if (tensor?.dtype === dtype && `${tensor.shape}` === `${shape}`) return tensor;
  const got = tensor ? `${tensor.dtype} [${tensor.shape}]` : "nothing";
  throw new Fault("bad-input", `feed ${name}`, { expected: `${dtype} [${shape}]`, got });
}

function fromOrt(tensor: OrtTensor, name: string): Tensor {
  const { type, dims, data } = tensor;
  if (!HELD.has(type))
    throw new Fault("unsupported", `output ${name}`, { expected: [...HELD].join(", "), got: type });
  // Newer platforms give halves as Float16Array; here they are bits.
  const bits =
    type === "float16" && !(data instanceof Uint16Array) ? halfBits(data as ArrayBufferView) : data;
  return { dtype: type as DType, shape: dims, data: bits as Tensor["data"] };
}

function halfBits({ buffer, byteOffset, byteLength }: ArrayBufferView): Uint16Array {
  return new Uint16Array(buffer, byteOffset, byteLength / 2);
}

const HELD: ReadonlySet<string> = new Set<DType>([
  ...(["float32", "float64", "float16", "int64", "int32"] as const),
  ...(["uint8", "int8", "bool", "string"] as const),
]);
