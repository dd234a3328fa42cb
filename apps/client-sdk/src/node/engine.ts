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
  await withoutItsHandlers(() => tf.setBackend("wasm"));
  return tfjsEngine(tf, "wasm");
}

const HANDLERS = {
  // Emscripten's own words, as the pinned version of tfjs has them.
  uncaughtException: /instanceof ExitStatus/,
  unhandledRejection: /^function\s*\(reason\)\s*\{\s*throw reason;?\s*\}$/,
} as const;

/**
 * Emscripten's glue catches what the process did not and throws it again from inside a minified line, all of
 * which Node then prints. Only handlers that came meanwhile and read as its own are taken away again: another
 * part of the process may add some at the same time.
 */
async function withoutItsHandlers(start: () => Promise<unknown>): Promise<void> {
  const names = Object.keys(HANDLERS) as (keyof typeof HANDLERS)[];
  const before = new Map(names.map((name) => [name, new Set(listenersOf(name))]));
  await start();
  for (const name of names) {
    for (const listener of listenersOf(name)) {
      if (before.get(name)!.has(listener) || !HANDLERS[name].test(String(listener))) continue;
      (process as NodeJS.EventEmitter).off(name, listener);
    }
  }
}

type Listener = (...values: unknown[]) => void;

function listenersOf(name: string): readonly Listener[] {
  return (process as NodeJS.EventEmitter).listeners(name) as Listener[];
}
