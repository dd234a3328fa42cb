import { assert } from "@tutti/foundation/check";
import { Fault } from "@tutti/foundation/fault";
import type { DType, Tensor, TensorData, Tensors } from "@tutti/graph/ir";
import type { Running, Runtime } from "../model.ts";
import type * as Ort from "./onnxruntime.ts";

/** Answers by onnxruntime on the processor, which is loaded with the first model. */
export function onnxruntimeNode(): Runtime {
  return {
    async open(model): Promise<Running> {
      const ort = await import("./onnxruntime.ts");
      const session = await ort.InferenceSession.create(model, { graphOptimizationLevel: "all" });
      return {
        run: async (feeds) => tensorsOf(await session.run(feedsOf(feeds, ort)), ort),
        release: () => session.release(),
      };
    },
  };
}

function feedsOf(feeds: Tensors, ort: typeof Ort): Record<string, Ort.Tensor> {
  const named = [...feeds].map(([name, { dtype, shape, data }]) => {
    return [name, new ort.Tensor(dtype as "float32", data as Float32Array, shape)] as const;
  });
  return Object.fromEntries(named);
}

const KNOWN: ReadonlySet<string> = new Set<DType>([
  "float32",
  "float64",
  "float16",
  "int64",
  "int32",
  "uint8",
  "int8",
  "bool",
  "string",
]);

function tensorsOf(outputs: Readonly<Record<string, Ort.OnnxValue>>, ort: typeof Ort): Tensors {
  return new Map(Object.entries(outputs).map(([name, value]) => [name, tensorOf(name, value, ort)]));
}

function tensorOf(name: string, value: Ort.OnnxValue, ort: typeof Ort): Tensor {
  assert(value instanceof ort.Tensor, `output ${name} is a tensor`);
  if (!KNOWN.has(value.type)) throw new Fault("unsupported", `output ${name}`, { got: value.type });
  return { dtype: value.type as DType, shape: value.dims, data: value.data as TensorData };
}
