import { dirname, resolve as resolvePath } from "node:path";
import { writeTensors } from "@tutti/adapter/formats/safetensors";
import { initialAdapter } from "@tutti/adapter/initial";
import { merge } from "@tutti/adapter/merge";
import { resolve } from "@tutti/adapter/resolve";
import type { ResolvedAdapter } from "@tutti/adapter/spec";
import { asFault, Fault } from "@tutti/foundation/fault";
import { sha256Hex } from "@tutti/foundation/hash";
import { seededRandom } from "@tutti/foundation/random";
import type { ValueInfo } from "@tutti/graph/ir";
import { type Model, read } from "@tutti/graph/read";
import { type Plan, parseRunFile, type RunFile } from "@tutti/plan/plan";
import { parse as parseYaml } from "yaml";
import { readRegular } from "./files.ts";

/** A run ready to be signed and started: the plan, and the two files it names by hash. */
export type PreparedRun = { readonly plan: Plan; readonly base: Uint8Array; readonly initial: Uint8Array };

/** Reads a run file (YAML or JSON) and resolves it against its base model. */
export async function prepareRun(file: string, overrides: Partial<RunFile> = {}): Promise<PreparedRun> {
  const text = await readOrSay(file, "run file");
  const runFile = parseRunFile({ ...parseText(file, new TextDecoder().decode(text)), ...overrides });
  const path = resolvePath(dirname(file), runFile.base);
  const base = await readOrSay(path, `base model of ${file}`, "Name another with --base");
  return resolveRun(runFile, base, path);
}

/** The plan of a run file: targets resolved to tensors, the first adapter drawn from the run's seed. */
export function resolveRun(runFile: RunFile, base: Uint8Array, path = runFile.base): PreparedRun {
  const model = readModel(base, path);
  checkShapes(runFile, model);
  const adapter = resolve(model, runFile.adapter);
  const first = initialAdapter(adapter, seededRandom(`${runFile.seed}/initial`), model);
  checkMerges(adapter, base, { path, first });
  const initial = writeTensors(adapter.tensors, first);
  const { base: _path, ...fields } = runFile;
  const plan: Plan = {
    version: 1,
    ...fields,
    base: { sha256: sha256Hex(base), bytes: base.length },
    tensors: adapter.tensors.map(({ name, shape }) => ({ name, shape: [...shape] })),
    initial: { sha256: sha256Hex(initial), bytes: initial.length },
  };
  return { plan, base, initial };
}

/**
 * As many columns as the model takes, and classes as it tells apart, where it says so: every site would fail
 * on the first, and none would notice the second.
 */
function checkShapes({ data, loss }: RunFile, { graph }: Model): void {
  const { columns, classes } = data ?? {};
  const [input, ...others] = graph.inputs;
  const wanted = (field: string, count: number | undefined, value: ValueInfo | undefined) => {
    const size = value?.shape?.length === 2 ? value.shape[1] : null;
    if (count === undefined || typeof size !== "number" || size === count) return;
    const detail = { expected: `${size}, as ${value!.name} of its base model has`, got: `${count}` };
    throw new Fault("bad-input", `run file, field ${field}`, detail);
  };
  if (others.length === 0) wanted("data.columns", columns?.length, input);
  if (loss === "softmax-cross-entropy") wanted("data.classes", classes?.length, graph.outputs[0]);
}

/**
 * Devices answer with the merged file, so a base that cannot be merged into (a quantised one) is refused
 * before anybody trains, not when the first release is tried.
 */
function checkMerges(
  adapter: ResolvedAdapter,
  base: Uint8Array,
  { path, first }: { path: string; first: ReadonlyMap<string, Float32Array> },
): void {
  try {
    merge(base, adapter, first);
  } catch (cause) {
    const { code, message } = asFault(cause);
    const expected = "a base that its devices can merge the adapter into";
    throw new Fault(code, `base model ${path}`, { expected, got: message, cause });
  }
}

/** The base model's graph; what is wrong with it is said with its file's name. */
function readModel(bytes: Uint8Array, path: string): Model {
  try {
    return read(bytes);
  } catch (cause) {
    const { code, message } = asFault(cause);
    throw new Fault(code, `base model ${path}`, {
      expected: "an ONNX file Tutti reads",
      got: message,
      cause,
    });
  }
}

/** A file's bytes, or a Fault that says which file was wanted for what. */
export async function readOrSay(path: string, what: string, todo?: string): Promise<Uint8Array> {
  return readRegular(path, { what, todo });
}

function parseText(file: string, text: string): Record<string, unknown> {
  try {
    const value: unknown = parseYaml(text);
    if (typeof value === "object" && value !== null) return value as Record<string, unknown>;
  } catch (cause) {
    throw new Fault("bad-input", `run file ${file}`, {
      expected: "YAML or JSON",
      got: (cause as Error).message,
      cause,
    });
  }
  throw new Fault("bad-input", `run file ${file}`, { expected: "fields and values", got: "something else" });
}
