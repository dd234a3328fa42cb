import { realpathSync } from "node:fs";
import { dirname, join, sep } from "node:path";
import { demand } from "@tutti/foundation/check";
import { Fault } from "@tutti/foundation/fault";
import { type Model, read } from "@tutti/graph/read";
import { readRegular } from "./files.ts";
import { readOrSay } from "./prepare.ts";

/** A model file, and the files that it keeps weights in. */
export type ModelFile = {
  readonly path: string;
  readonly bytes: Uint8Array;
  readonly model: Model;
  /** By location, as the model names them; all that reading it asked for. */
  readonly beside: ReadonlyMap<string, Uint8Array>;
  external(location: string): Uint8Array;
};

/** Reads a model with the files beside it. */
export async function openModel(path: string): Promise<ModelFile> {
  const bytes = await readOrSay(path, "model");
  return openModelBytes(path, bytes);
}

/** The same for bytes that stand for the file at `path`. */
export function openModelBytes(path: string, bytes: Uint8Array): ModelFile {
  const beside = new Map<string, Uint8Array>();
  const external = (location: string, least = 0): Uint8Array => {
    const held = beside.get(location) ?? readBeside(path, location, least);
    beside.set(location, held);
    return held;
  };
  return { path, bytes, model: read(bytes, { externalData: external }), beside, external };
}

/**
 * A location is a path inside the model's folder (ONNX, ExternalData). No model may name other files, be it
 * by a path or by a link that leads out.
 */
function readBeside(path: string, location: string, least: number): Uint8Array {
  const real = realPath(path, location);
  const folder = realpathSync(dirname(path));
  demand(real.startsWith(folder + sep) && real === join(folder, location), () => {
    const todo = "Copy the weights beside the model";
    return new Fault("refused", `weights of ${path}`, { expected: "a file beside it", got: location, todo });
  });
  return readRegular(real, { what: `weights of ${path}`, least });
}

function realPath(path: string, location: string): string {
  try {
    return realpathSync(join(dirname(path), location));
  } catch (cause) {
    const got = (cause as Error).message;
    throw new Fault("not-found", `weights of ${path}`, { expected: location, got, cause });
  }
}
