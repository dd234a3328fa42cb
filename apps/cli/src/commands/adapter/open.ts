import { readdir, stat } from "node:fs/promises";
import { join } from "node:path";
import { type AdapterFormat, formatOf, PEFT_CONFIG, PEFT_WEIGHTS } from "@tutti/adapter/formats/format";
import { fromGguf, type Heads } from "@tutti/adapter/formats/gguf-lora";
import { fromOnnxAdapter } from "@tutti/adapter/formats/onnx-adapter-lora";
import { type PeftAdapter, readBare, readPeft } from "@tutti/adapter/formats/peft-adapter";
import { bind, type Loaded } from "@tutti/adapter/formats/peft-bind";
import { demand } from "@tutti/foundation/check";
import { Fault } from "@tutti/foundation/fault";
import { ioSaid } from "../../files.ts";
import { type ModelFile, openModel } from "../../model-file.ts";
import { readOrSay } from "../../prepare.ts";
import { givenNames, type NameOptions } from "./options.ts";

/** An adapter read from a path, in whichever format it is kept. */
export type Opened = {
  readonly format: AdapterFormat;
  readonly peft: PeftAdapter;
  /** Size of the file, or of the folder's two files. */
  readonly bytes: number;
  /** What the file says of its base, where it does. */
  readonly base?: string;
  /** The file does not say its alpha; what `peft` has is a guess unless it was given. */
  readonly bare: boolean;
};

export type OpenOptions = Heads & {
  /** For files that do not keep it. */
  readonly alpha?: number | undefined;
  /** Opens a bare file without an alpha, for looking at alone. */
  readonly look?: boolean;
};

/**
 * @throws Fault naming the path, for what is not there, is no adapter, or is a broken one.
 */
export async function openAdapter(path: string, options: OpenOptions = {}): Promise<Opened> {
  try {
    return (await isFolder(path)) ? await openFolder(path) : await openFile(path, options);
  } catch (cause) {
    if (!(cause instanceof Fault) || cause.message.includes(path)) throw cause;
    throw new Fault(cause.code, `adapter ${path}: ${cause.message}`, { cause });
  }
}

/**
 * An adapter and its base, the base first: where both are mistaken for each other, that is said.
 * @throws Fault("bad-input") for a base that is an adapter, naming the likely swap.
 */
export async function openBoth(
  basePath: string,
  adapterPath: string,
  options: OpenOptions,
): Promise<{ readonly base: ModelFile; readonly opened: Opened }> {
  if (await isFolder(basePath, "model")) {
    const peft = formatOf(await readdir(basePath)) !== undefined;
    const got = peft ? "the folder of a PEFT adapter" : "a folder";
    const todo = peft ? "Are base and adapter swapped?" : "Name the .onnx file in it";
    throw new Fault("bad-input", basePath, { expected: "an ONNX model", got, todo });
  }
  const base = await openModel(basePath);
  return { base, opened: await openAdapter(adapterPath, options) };
}

/** The adapter bound to the base, by the names that `--names` gives where it does. */
export async function bindAdapter(adapter: Opened, base: ModelFile, options: NameOptions): Promise<Loaded> {
  return bind(adapter.peft, base.model, { names: await givenNames(options) });
}

async function openFolder(path: string): Promise<Opened> {
  const format = formatOf(await readdir(path));
  refuse(format, `a folder with ${PEFT_CONFIG} and ${PEFT_WEIGHTS}`);
  const text = await readOrSay(join(path, PEFT_CONFIG), "adapter config");
  const weights = await readOrSay(join(path, PEFT_WEIGHTS), "adapter weights");
  const config = new TextDecoder().decode(text);
  const peft = readPeft(config, weights);
  const { base_model_name_or_path: base } = JSON.parse(config) as Record<string, unknown>;
  const known = typeof base === "string" && base !== "" ? { base } : {};
  return { format, peft, bytes: text.length + weights.length, bare: false, ...known };
}

async function openFile(path: string, options: OpenOptions): Promise<Opened> {
  const content = await readOrSay(path, "adapter");
  const format = formatOf(content);
  refuse(format, "a PEFT folder, .safetensors, .gguf or .onnx_adapter file");
  const bytes = content.length;
  switch (format) {
    case "gguf":
      return { format, peft: fromGguf(content, options), bytes, bare: false };
    case "onnx_adapter":
      return { format, peft: fromOnnxAdapter(content), bytes, bare: false };
    default:
      return { format, peft: openBare(content, format, options), bytes, bare: options.alpha === undefined };
  }
}

function openBare(content: Uint8Array, format: AdapterFormat, { alpha, look }: OpenOptions): PeftAdapter {
  demand(alpha !== undefined || look, () => {
    const todo = "Give --alpha, or the PEFT folder";
    return new Fault("bad-input", `${format} file`, { expected: "an alpha", got: "none in the file", todo });
  });
  const peft = readBare(content, alpha ?? 1);
  const [whole] = format === "tutti" && !look ? peft.whole : [];
  demand(!whole, () => {
    const todo = "Take the PEFT folder beside it";
    return new Fault("unsupported", `release's tensor ${whole?.name}`, { expected: "factors", todo });
  });
  return peft;
}

function refuse(format: AdapterFormat | undefined, expected: string): asserts format {
  demand(format !== undefined, () => new Fault("unsupported", "format", { expected, got: "another" }));
  const todo = "Save the adapter with safe_serialization=True";
  demand(
    format !== "pickle",
    () => new Fault("refused", "format", { expected, got: "a pickled .bin, which can run code", todo }),
  );
}

async function isFolder(path: string, what = "adapter"): Promise<boolean> {
  try {
    return (await stat(path)).isDirectory();
  } catch (cause) {
    const expected = "a file or folder";
    throw new Fault("not-found", `${what} ${path}`, { expected, got: ioSaid(cause), cause });
  }
}
