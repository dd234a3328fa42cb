import { realpathSync } from "node:fs";
import { dirname, join, sep } from "node:path";
import { type AdapterFormat, formatOf } from "@tutti/adapter/formats/format";
import { demand } from "@tutti/foundation/check";
import { Fault } from "@tutti/foundation/fault";
import { type Model, read } from "@tutti/graph/read";
import { ioSaid, readRegular } from "./files.ts";
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
  return { path, bytes, model: readUser(path, bytes, external), beside, external };
}

type External = (location: string, least?: number) => Uint8Array;

/** A user's file that is no model is a wrong argument, not a broken message; what it is is said if told. */
function readUser(path: string, bytes: Uint8Array, externalData: External): Model {
  try {
    return read(bytes, { externalData });
  } catch (cause) {
    const kind = cause instanceof Fault ? kindOf(bytes) : undefined;
    if (kind === undefined && (!(cause instanceof Fault) || cause.code !== "bad-message")) throw cause;
    const swapped = kind?.includes("adapter");
    throw new Fault("bad-input", path, {
      expected: "an ONNX model",
      got: kind ?? "other bytes, or part of one",
      ...(swapped && { todo: "Are base and adapter swapped?" }),
      cause,
    });
  }
}

const KINDS: Readonly<Record<AdapterFormat, string>> = {
  peft: "a PEFT adapter",
  safetensors: "safetensors of an adapter",
  tutti: "safetensors of an adapter",
  gguf: "a GGUF file, perhaps an adapter",
  onnx_adapter: "an .onnx_adapter",
  pickle: "a pickled file",
};

/** What bytes are that are no model; undefined where nothing tells. */
function kindOf(bytes: Uint8Array): string | undefined {
  if (bytes.length === 0) return "an empty file";
  try {
    const format = formatOf(bytes);
    if (format) return KINDS[format];
    if (bytes[8] === 0x7b) return "safetensors";
  } catch {
    return "a broken safetensors file";
  }
  const head = bytes.subarray(0, 4096);
  const plain = head.every((byte) => byte >= 0x20 || (byte >= 0x09 && byte <= 0x0d));
  return plain ? "text" : undefined;
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
    throw new Fault("not-found", `weights of ${path}`, { expected: location, got: ioSaid(cause), cause });
  }
}
