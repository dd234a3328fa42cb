import { appendFile, mkdir, readdir, rename, rm, stat } from "node:fs/promises";
import { basename, join } from "node:path";
import { fromUtf8, utf8 } from "@tutti/foundation/bytes";
import { Fault } from "@tutti/foundation/fault";
import { sha256Hex } from "@tutti/foundation/hash";
import { queue } from "@tutti/foundation/queue";
import { fieldsOf } from "../fields.ts";
import {
  activated,
  checkedName,
  checkedText,
  checkOffset,
  EMPTY,
  type HeldRelease,
  MAX_DOCUMENT,
  type Pointer,
  rolledBack,
  type Store,
} from "../store.ts";
import { readIfThere, replaceFile, replaceFolder, settleFolders, syncFolder } from "./atomic.ts";

/** A character of a string, half a pair or not, takes at most three bytes in UTF-8. */
const MAX_DOCUMENT_BYTES = 3 * MAX_DOCUMENT;
/** As far as a manifest's numbers go. */
const MAX_INTEGER = Number.MAX_SAFE_INTEGER;

/**
 * A device's state in a folder:
 * ```text
 * artifacts/<sha256>, <sha256>.part    downloads; a name without .part is whole
 * documents/<name>.json                plans, and the newest release accepted of each run
 * releases/<digest>/                   manifest.json adapter.safetensors model.onnx release.json
 * releases/<digest>.new, .old          while one is written, and while it takes the other's place
 * current.json                         the one pointer; replacing it is the moment a release comes in
 * ```
 * One process at a time: the folder is this device's own.
 */
export async function openFolderStore(folder: string): Promise<Store> {
  const at = (name: string, ...parts: readonly string[]) => join(folder, name, ...parts.map(checkedName));
  for (const name of ["artifacts", "documents", "releases"]) await mkdir(at(name), { recursive: true });
  await settleFolders(at("releases"));
  const part = (sha256: string) => at("artifacts", `${sha256}.part`);
  const pointer = () => readPointer(at("current.json"));
  // Changed from what it is right then: a site may go back while a release is written, which takes a while.
  const pointing = queue();
  const point = (change: (now: Pointer) => Pointer) =>
    pointing(async () => {
      const next = change(await pointer());
      const text = JSON.stringify(next);
      // What could not be read again would be this device's end.
      pointerOf(text);
      await replaceFile(at("current.json"), text);
      return next;
    });
  // The folder of one that nothing points at yet is not another's to sweep.
  const activating = queue();
  return {
    artifact: (sha256) => readIfThere(at("artifacts", sha256)),
    partial: async (sha256) => (await readIfThere(part(sha256))) ?? new Uint8Array(0),
    append: async (sha256, chunk, offset) => {
      const held = await stat(part(sha256)).catch(() => null);
      checkOffset(sha256, offset, held?.size ?? 0);
      await appendFile(part(sha256), chunk).catch((cause) => {
        throw new Fault("storage", part(sha256), { expected: "room for a chunk", got: `${cause}`, cause });
      });
    },
    // Not synced: bytes lost with the power fail their hash when they are read, and are fetched again.
    complete: async (sha256) => await rename(part(sha256), at("artifacts", sha256)),
    discard: async (sha256) => {
      await rm(part(sha256), { force: true });
      await rm(at("artifacts", sha256), { force: true });
    },
    discardBut: async (kept) => {
      for (const file of await readdir(at("artifacts")))
        if (!kept.has(basename(file, ".part"))) await rm(at("artifacts", file), { force: true });
    },
    document: async (name) => {
      const bytes = await readIfThere(at("documents", `${checkedName(name)}.json`), MAX_DOCUMENT_BYTES);
      return bytes && fromUtf8(bytes, name);
    },
    putDocument: async (name, text) =>
      await replaceFile(at("documents", `${checkedName(name)}.json`), checkedText(name, text)),
    documents: () => namesIn(at("documents")),
    pointer,
    release: (digest) => readRelease(at("releases", digest), digest),
    setBase: async (base) => void (await point((now) => ({ ...now, base }))),
    activate: (release, made) =>
      activating(async () => {
        await replaceFolder(at("releases", release.digest), filesOf(release));
        const next = await point((now) => activated(now, release.digest, made));
        await sweep(at("releases"), next);
      }),
    rollback: async (options) => void (await point((now) => rolledBack(now, options))),
  };
}

/** Of the documents in a folder, the one that was written last first. */
async function namesIn(documents: string): Promise<string[]> {
  const files = (await readdir(documents)).filter((file) => file.endsWith(".json"));
  const written = await Promise.all(files.map(async (file) => (await stat(join(documents, file))).mtimeMs));
  const order = files.map((file, at) => ({ name: basename(file, ".json"), atMs: written[at] ?? 0 }));
  return order.sort((a, b) => b.atMs - a.atMs).map(({ name }) => name);
}

function filesOf({
  run,
  version,
  manifest,
  adapter,
  model,
}: HeldRelease): Record<string, Uint8Array | string> {
  const hashes = {
    manifest: sha256Hex(utf8(manifest)),
    adapter: sha256Hex(adapter),
    model: sha256Hex(model),
  };
  return {
    "manifest.json": manifest,
    "adapter.safetensors": adapter,
    "model.onnx": model,
    "release.json": JSON.stringify({ run, version, ...hashes }),
  };
}

/** The release, or null when a file is missing or its bytes are not those that were written. */
async function readRelease(folder: string, digest: string): Promise<HeldRelease | null> {
  const names = ["manifest.json", "adapter.safetensors", "model.onnx", "release.json"];
  const [manifest, adapter, model, about] = await Promise.all(
    names.map((name) => readIfThere(join(folder, name))),
  );
  if (!manifest || !adapter || !model || !about) return null;
  try {
    const fields = fieldsOf("release.json", fromUtf8(about));
    const whole =
      fields.string("manifest") === sha256Hex(manifest) &&
      fields.string("adapter") === sha256Hex(adapter) &&
      fields.string("model") === sha256Hex(model);
    const named = { run: fields.string("run"), version: fields.integer("version", 0, MAX_INTEGER) };
    return whole ? { digest, ...named, manifest: fromUtf8(manifest), adapter, model } : null;
  } catch {
    return null;
  }
}

async function readPointer(file: string): Promise<Pointer> {
  const bytes = await readIfThere(file);
  return bytes === null ? EMPTY : pointerOf(fromUtf8(bytes));
}

function pointerOf(text: string): Pointer {
  const fields = fieldsOf("current.json", text, "storage");
  const name = (field: string) => fields.optional(field, () => fields.string(field));
  const rejected = fields.optional("rejected", () => fields.strings("rejected")) ?? [];
  const latest = fields.optional("latest", () => {
    const made = fields.object("latest");
    return { run: made.string("run"), madeMs: made.integer("madeMs", 0, MAX_INTEGER) };
  });
  const named = { base: name("base"), current: name("current"), previous: name("previous"), rejected };
  return latest ? { ...named, latest } : named;
}

/** Removes what nothing points at: older releases, and what a killed activation left behind. */
async function sweep(releases: string, { current, previous }: Pointer): Promise<void> {
  for (const name of await readdir(releases)) {
    if (name !== current && name !== previous)
      await rm(join(releases, name), { recursive: true, force: true });
  }
  await syncFolder(releases);
}
