import { createReadStream } from "node:fs";
import { mkdir, readdir, rm, stat } from "node:fs/promises";
import { dirname, isAbsolute, join, resolve } from "node:path";
import { Fault } from "@tutti/foundation/fault";
import { sha256Hex } from "@tutti/foundation/hash";
import { parsePlan } from "@tutti/plan/plan";
import { decode } from "@tutti/wire/message";
import { SignedEnvelopeSchema } from "@tutti/wire/release";
import { MAX_MESSAGE_BYTES } from "@tutti/wire/rpc";
import { decodeHeader } from "../drive/ledger.ts";
import { needs } from "../drive/retention.ts";
import type { Config } from "../folder/config.ts";
import { publish } from "../folder/files.ts";
import { PATHS, readConfig } from "../folder/layout.ts";
import { snapshot, TABLE_NAMES } from "../store/dump.ts";
import { openSource, type Source } from "../store/source.ts";
import { syncTree, writeFile } from "./files.ts";
import { MANIFEST, type Manifest, type ManifestFile, manifestText } from "./manifest.ts";

export type BackupOptions = {
  /** The federation's folder. */
  readonly folder: string;
  /** A new folder. */
  readonly to: string;
  /** The wall clock. */
  readonly nowMs: number;
  readonly progress?: (line: string) => void;
  readonly signal?: AbortSignal;
};

/** What was made, and the SHA-256 of its manifest, which vouches for all the rest. */
export type Backup = { readonly manifest: Manifest; readonly sha256: string; readonly bytes: number };

/**
 * Copies a federation's database, artifacts and coordinator's files into a new folder, while its coordinators
 * run or not. Written beside its place and then renamed, so it is there whole or not at all.
 */
export async function backUp(options: BackupOptions): Promise<Backup> {
  const to = resolve(options.to);
  await mustBeNew(to);
  const config = await readConfig(options.folder);
  const part = `${to}.${process.pid}.part`;
  const source = await openSource(options.folder, config);
  try {
    await mkdir(dirname(to), { recursive: true });
    await mkdir(part, { mode: 0o700 });
    const manifest = await copy(part, { ...options, config, source });
    const text = manifestText(manifest);
    await writeFile(part, MANIFEST, once(text));
    await syncTree(part);
    await publish(part, to);
    const bytes = manifest.files.reduce((sum, file) => sum + file.bytes, 0);
    return { manifest, sha256: sha256Hex(new TextEncoder().encode(text)), bytes };
  } catch (cause) {
    await rm(part, { recursive: true, force: true });
    const code = (cause as NodeJS.ErrnoException).code ?? "an error";
    const ours = cause instanceof Fault || cause === options.signal?.reason;
    throw ours ? cause : new Fault("storage", to, { got: code, cause });
  } finally {
    await source.close();
  }
}

type Copying = BackupOptions & { readonly config: Config; readonly source: Source };

/**
 * Artifacts before the snapshot, for rounds may throw old ones away after it; and again after it, for those
 * that it names and that came meanwhile.
 */
async function copy(part: string, copying: Copying): Promise<Manifest> {
  const { folder, config, source, nowMs, progress = () => {}, signal } = copying;
  const shelf = shelfOf(folder, config);
  const copied = new Map<string, ManifestFile>();
  const copyShelf = async () => {
    if (shelf === null) return;
    for (const name of (await readdir(shelf).catch(() => [])).filter(isArtifact)) {
      signal?.throwIfAborted();
      if (copied.has(name)) continue;
      const file = await copyFile(part, `artifacts/${name}`, join(shelf, name));
      if (file && file.sha256 !== name) throw damaged(name, file.sha256);
      if (file) copied.set(name, file);
    }
    progress(`${copied.size} artifacts`);
  };
  await copyShelf();
  const stored = await snapshot(source, async ({ epoch, migrations, lines }) => {
    const files: ManifestFile[] = [];
    for (const table of TABLE_NAMES) {
      signal?.throwIfAborted();
      files.push(await writeFile(part, `store/${table}.jsonl`, lines(table)));
    }
    progress(`the database at epoch ${epoch}`);
    return { epoch, migrations, files };
  });
  await copyShelf();
  if (shelf !== null) await mustHaveAll(source, copied);
  const own: ManifestFile[] = [];
  for (const path of await ownFiles(folder)) {
    const file = await copyFile(part, `folder/${path}`, join(folder, path));
    if (file) own.push(file);
  }
  const { epoch, migrations } = stored;
  return {
    version: 1,
    federation: config.name,
    madeAt: new Date(nowMs).toISOString(),
    engine: source.name,
    migrations,
    epoch,
    artifacts: shelf === null ? "bucket" : "here",
    files: [...own, ...stored.files, ...copied.values()],
  };
}

/** Where artifacts are files; null where they are in a bucket, which keeps them by itself. */
export function shelfOf(folder: string, { artifacts }: Pick<Config, "artifacts">): string | null {
  if (artifacts.s3) return null;
  const path = artifacts.folder ?? PATHS.artifacts;
  return isAbsolute(path) ? path : join(folder, path);
}

/** What the coordinator has in the folder beside database and artifacts; no key of authority or owner. */
async function ownFiles(folder: string): Promise<string[]> {
  const entries = await readdir(join(folder, "coordinator"), { withFileTypes: true });
  const own = entries.filter((entry) => entry.isFile() && !entry.name.startsWith("tutti.sqlite"));
  const open = [PATHS.config, PATHS.authorityPublic, PATHS.ownerCertificate];
  return [...open, ...own.map(({ name }) => join("coordinator", name))];
}

/** Undefined for a file that went meanwhile. */
async function copyFile(part: string, path: string, from: string): Promise<ManifestFile | undefined> {
  const there = await stat(from).catch(() => undefined);
  if (!there) return undefined;
  return await writeFile(part, path, createReadStream(from));
}

/** A run that goes on without one of these could not. */
async function mustHaveAll({ db }: Source, copied: ReadonlyMap<string, unknown>): Promise<void> {
  const runs = await db.selectFrom("runs").select(["name", "plan", "header", "state"]).execute();
  for (const { name, plan, header, state } of runs) {
    if (state !== "running") continue;
    const { payload } = decode(SignedEnvelopeSchema, plan, MAX_MESSAGE_BYTES);
    const missing = needs(parsePlan(payload), decodeHeader(header)).find((one) => one && !copied.has(one));
    if (missing === undefined) continue;
    throw new Fault("conflict", `artifact ${missing.slice(0, 12)} of run ${name}`, {
      expected: "a file that is there",
      got: "none",
      todo: "A round may have ended just now: try again. Else the folder of artifacts is damaged",
    });
  }
}

function damaged(name: string, got: string): Fault {
  return new Fault("storage", `artifact ${name.slice(0, 12)}`, {
    expected: `SHA-256 ${name}`,
    got,
    todo: "The file changed on disk: put it again from a good copy",
  });
}

function isArtifact(name: string): boolean {
  return /^[0-9a-f]{64}$/.test(name);
}

async function mustBeNew(folder: string): Promise<void> {
  const there = await stat(folder).then(
    () => true,
    () => false,
  );
  if (there)
    throw new Fault("conflict", folder, {
      expected: "a new folder",
      got: "one that exists",
      todo: "Name another",
    });
}

async function* once(text: string): AsyncGenerator<string> {
  yield text;
}
