import { systemClock } from "@tutti/foundation/clock";
import { Fault } from "@tutti/foundation/fault";
import { type AutoOptions, autoEngine } from "@tutti/graph/engines/auto";
import { onnxruntimeEngine } from "@tutti/graph/engines/onnxruntime/engine";
import { tfjsEngine } from "@tutti/graph/engines/tfjs/engine";
import type { Engine } from "@tutti/graph/ir";

export const ENGINE_NAMES = ["tfjs", "onnxruntime", "auto"] as const;
export type EngineName = (typeof ENGINE_NAMES)[number];

/**
 * What runs training graphs: tfjs, on tfjs-node where that is installed, else on WebAssembly; onnxruntime; or
 * "auto", whichever of the two takes a graph's first steps faster (libs/graph/engines/auto).
 */
export async function nodeEngine(
  name: EngineName = "tfjs",
  options: Partial<AutoOptions> = {},
): Promise<Engine> {
  switch (name) {
    case "tfjs":
      return (await nodeTfjs()) ?? (await wasmTfjs());
    case "onnxruntime":
      return onnxruntimeEngine(await import("./onnxruntime.ts"));
    case "auto": {
      const candidates = [await nodeEngine("tfjs"), await nodeEngine("onnxruntime")];
      return autoEngine(candidates, { clock: systemClock(), ...options });
    }
    default:
      throw new Fault("bad-input", "engine", { expected: ENGINE_NAMES.join(" or "), got: `${name}` });
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
