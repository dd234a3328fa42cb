import { Fault } from "@tutti/foundation/fault";
import { onnxruntimeEngine } from "@tutti/graph/engines/onnxruntime/engine";
import { tfjsEngine } from "@tutti/graph/engines/tfjs/engine";
import type { Engine } from "@tutti/graph/ir";

export type EngineName = "tfjs" | "onnxruntime";

/**
 * What runs training graphs: tfjs, on tfjs-node where that is installed, else on WebAssembly; or
 * onnxruntime.
 */
export async function nodeEngine(name: EngineName = "tfjs"): Promise<Engine> {
  switch (name) {
    case "tfjs":
      return (await nodeTfjs()) ?? (await wasmTfjs());
    case "onnxruntime":
      return onnxruntimeEngine(await import("./onnxruntime.ts"));
    default:
      throw new Fault("bad-input", "engine", { expected: "tfjs or onnxruntime", got: `${name}` });
  }
}

/** tfjs-node is optional: installing it downloads from outside the registry, which many sites forbid. */
async function nodeTfjs(): Promise<Engine | null> {
  const optional = "@tensorflow/tfjs-node";
  try {
    return tfjsEngine((await import(optional)) as Parameters<typeof tfjsEngine>[0], "tensorflow");
  } catch {
    return null;
  }
}

async function wasmTfjs(): Promise<Engine> {
  const tf = await import("@tensorflow/tfjs-core");
  await import("@tensorflow/tfjs-backend-wasm");
  // Started here, once: a second load that came while the first one starts it would find it half there.
  await tf.setBackend("wasm");
  return tfjsEngine(tf, "wasm");
}
