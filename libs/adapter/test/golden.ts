import { readFileSync } from "node:fs";
import * as ort from "onnxruntime-node";
import { onnxruntimeEngine } from "../../graph/src/engines/onnxruntime/engine.ts";
import type { DType, Tensor, Tensors } from "../../graph/src/ir.ts";
import { type Model, read } from "../../graph/src/read.ts";
import { shared } from "../../graph/test/shared.ts";
import { openSafetensors, type RawTensor } from "../src/formats/safetensors.ts";

/** onnxruntime on one thread: tests share the machine. */
export const engine = onnxruntimeEngine(ort as never, { session: { intraOpNumThreads: 1 } });

/** One case of conformance/peft: what torch and PEFT say of a base and an adapter. */
export type Golden = {
  readonly config: string;
  readonly weights: Uint8Array;
  readonly golden: Tensors;
  readonly inputs: Tensors;
  base(exporter: "dynamo" | "legacy"): { bytes: Uint8Array; model: Model };
};

export function goldenOf(name: string): Golden | undefined {
  const folder = shared(`conformance/peft/${name}`);
  if (folder === undefined) return undefined;
  const file = (path: string) => new Uint8Array(readFileSync(`${folder}/${path}`));
  const tensors = openSafetensors(file("golden.safetensors")).tensors;
  const golden = new Map([...tensors].map(([key, tensor]) => [key, decoded(tensor)]));
  const inputs = [...golden].filter(([key]) => key.startsWith("input."));
  return {
    config: new TextDecoder().decode(file("adapter_config.json")),
    weights: file("adapter_model.safetensors"),
    golden,
    inputs: new Map(inputs.map(([key, tensor]) => [key.slice("input.".length), tensor])),
    base(exporter) {
      const bytes = file(`base.${exporter}.onnx`);
      return { bytes, model: read(bytes) };
    },
  };
}

function decoded({ dtype, shape, bytes }: RawTensor): Tensor {
  const { buffer } = new Uint8Array(bytes);
  if (dtype === "F32") return { dtype: "float32", shape, data: new Float32Array(buffer) };
  return { dtype: "int64", shape, data: new BigInt64Array(buffer) };
}

/** Runs model bytes as they are in onnxruntime, without any code of ours in between. */
export async function runFile(bytes: Uint8Array, feeds: Tensors): Promise<Map<string, Float32Array>> {
  const session = await ort.InferenceSession.create(bytes, {
    intraOpNumThreads: 1,
    graphOptimizationLevel: "disabled",
  });
  const inputs = [...feeds].map(([name, { dtype, data, shape }]) => {
    return [name, new ort.Tensor(dtype as Exclude<DType, "string">, data as never, shape)] as const;
  });
  const results = await session.run(Object.fromEntries(inputs));
  await session.release();
  return new Map(Object.entries(results).map(([name, tensor]) => [name, tensor.data as Float32Array]));
}

/** The largest difference of two vectors of one length; NaN counts as infinite. */
export function apart(a: ArrayLike<number>, b: ArrayLike<number>): number {
  if (a.length !== b.length) return Number.POSITIVE_INFINITY;
  const differences = Array.from(a, (value, i) => Math.abs(value - b[i]!));
  return Math.max(0, ...differences.map((value) => (Number.isNaN(value) ? Number.POSITIVE_INFINITY : value)));
}
