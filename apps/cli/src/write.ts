import { access, mkdir, rename, rm, writeFile } from "node:fs/promises";
import { dirname, join, resolve } from "node:path";
import { Fault } from "@tutti/foundation/fault";
import type { ModelFile } from "./model-file.ts";

export type WriteOptions = { readonly force?: boolean | undefined };

/**
 * Writes all of these files or none: each beside its place first, then every one moved there.
 * @throws Fault("conflict") for a file that exists, unless forced; nothing is written then.
 */
export async function writeAll(
  files: ReadonlyMap<string, Uint8Array | string>,
  { force = false }: WriteOptions = {},
): Promise<void> {
  if (!force) for (const path of files.keys()) await refuseTaken(path);
  const moves: (readonly [string, string])[] = [];
  try {
    for (const [path, content] of files) {
      await mkdir(dirname(path), { recursive: true });
      const beside = join(dirname(path), `.${process.pid}-${moves.length}.tmp`);
      moves.push([beside, path]);
      await writeFile(beside, content, { flag: "wx" });
    }
    for (const [beside, path] of moves) await rename(beside, path);
  } catch (cause) {
    for (const [beside] of moves) await rm(beside, { force: true });
    const got = (cause as Error).message;
    throw new Fault("storage", `writing ${[...files.keys()].join(", ")}`, { expected: "room", got, cause });
  }
}

async function refuseTaken(path: string): Promise<void> {
  const taken = await access(path).then(
    () => true,
    () => false,
  );
  if (!taken) return;
  const todo = "Name another, or give --force";
  throw new Fault("conflict", path, { expected: "a new file", got: "one that exists", todo });
}

/**
 * The files of a model made from `base`: the model names its weight files as the base does, so those it needs
 * come along, changed or not.
 * @throws Fault("conflict") where a file would take the place of one of the base's, forced or not.
 */
export function modelFiles(
  out: string,
  model: Uint8Array,
  { base, changed = new Map() }: { base: ModelFile; changed?: ReadonlyMap<string, Uint8Array> },
): ReadonlyMap<string, Uint8Array> {
  const beside = [...base.beside].map(([location, bytes]) => {
    return [join(dirname(out), location), changed.get(location) ?? bytes] as const;
  });
  const files = new Map([...beside, [out, model]]);
  const own = [base.path, ...[...base.beside.keys()].map((location) => join(dirname(base.path), location))];
  const replaced = new Set(own.map((path) => resolve(path)));
  for (const path of files.keys()) {
    if (!replaced.has(resolve(path))) continue;
    const todo = "Write into a folder of its own";
    throw new Fault("conflict", path, { expected: "another file than the model's own", todo });
  }
  return files;
}
