import { mkdir, open, readdir, rm, stat } from "node:fs/promises";
import { basename, dirname, join, resolve } from "node:path";
import { Fault } from "@tutti/foundation/fault";
import { sha256Hex } from "@tutti/foundation/hash";
import { parsePlan } from "@tutti/plan/plan";
import { decode } from "@tutti/wire/message";
import { SignedEnvelopeSchema } from "@tutti/wire/release";
import { MAX_MESSAGE_BYTES } from "@tutti/wire/rpc";
import { needs } from "../drive/retention.ts";
import { decodeHeader } from "../drive/run-store.ts";
import type { Config } from "../folder/config.ts";
import { makeFolder, publish, storageFault } from "../folder/files.ts";
import { artifactsFolder, COORDINATOR_FILES, missingFile, PATHS, readConfig } from "../folder/layout.ts";
import { type Snapshot, snapshot, TABLE_NAMES } from "../store/dump.ts";
import { openSource, type Source } from "../store/source.ts";
import { syncTree, writeFile } from "./files.ts";
import { isPath, MANIFEST, type Manifest, type ManifestFile, manifestText } from "./manifest.ts";

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
 * run or not. Written beside its place and then renamed, so it is there whole or not at all. The private keys
 * of the coordinator and of its TLS certificate are in it, so it is its user's alone: folders of mode 700,
 * files of mode 600.
 * @throws Fault("conflict") for a place that is taken, or where an artifact of a run in progress is gone;
 * Fault("not-found") for a folder without a database, or without a file that a coordinator cannot serve
 * without; Fault("unsupported") for a database of another Tutti; Fault("storage") where a disk fails or
 * changed an artifact; the signal's reason.
 */
export async function backUp(options: BackupOptions): Promise<Backup> {
  const to = resolve(options.to);
  await mustBeNew(to);
  const config = await readConfig(options.folder);
  const part = `${to}.${process.pid}.part`;
  const source = await openSource(options.folder, config);
  try {
    await makeFolder(dirname(to));
    await mkdir(part, { mode: 0o700 });
    const manifest = await copy(part, { ...options, config, source });
    const text = manifestText(manifest);
    await writeFile(part, MANIFEST, once(text));
    await syncTree(part);
    await publish(part, to);
    const bytes = manifest.files.reduce((sum, file) => sum + file.bytes, 0);
    return { manifest, sha256: sha256Hex(new TextEncoder().encode(text)), bytes };
  } catch (cause) {
    await rm(part, { recursive: true, force: true }).catch(() => {});
    throw cause === options.signal?.reason ? cause : storageFault(to, cause);
  } finally {
    await source.close();
  }
}

type Copying = BackupOptions & { readonly config: Config; readonly source: Source };

/** Snapshots tried: a round ending during one may remove files it refers to. */
const TRIES = 5;

async function copy(part: string, copying: Copying): Promise<Manifest> {
  const { folder, config, source, nowMs, progress = () => {} } = copying;
  const own = await copyOwn(part, folder, progress);
  const shelf = shelfOf(folder, config);
  const copied = shelf === null ? null : new Copied(part, shelf, copying);
  // All that is there before the moment, so that little is left to copy at it; what came meanwhile after it.
  await copied?.all();
  let stored: Stored | null = null;
  for (let tries = 1; stored === null; tries++)
    stored = await copyMoment(part, { ...copying, copied, tries });
  progress(`the database at epoch ${stored.epoch}`);
  await copied?.all();
  const { epoch, migrations } = stored;
  return {
    version: 1,
    federation: config.name,
    madeAt: new Date(nowMs).toISOString(),
    engine: source.name,
    migrations,
    epoch,
    artifacts: shelf === null ? "bucket" : "here",
    files: [...own, ...stored.files, ...(copied?.files ?? [])],
  };
}

type Stored = Pick<Manifest, "epoch" | "migrations"> & { readonly files: ManifestFile[] };

/**
 * The database as of a moment, and before it is written down the files without which a run could not go on
 * from that moment: rounds that end meanwhile may remove them. Null where one went already: then another
 * moment is tried. @throws Fault("conflict") naming it, at the last try.
 */
async function copyMoment(
  part: string,
  { source, copied, tries, progress = () => {}, signal }: Copying & { copied: Copied | null; tries: number },
): Promise<Stored | null> {
  return await snapshot(source, async ({ epoch, migrations, running, lines }) => {
    const missing = await copied?.takeNeeded(await running());
    if (missing && tries >= TRIES) throw missingFault(missing);
    if (missing) {
      progress(`artifact ${missing.name.slice(0, 12)} went meanwhile: once more`);
      return null;
    }
    const files: ManifestFile[] = [];
    for (const table of TABLE_NAMES) {
      signal?.throwIfAborted();
      files.push(await writeFile(part, `store/${table}.jsonl`, lines(table)));
    }
    return { epoch, migrations, files };
  });
}

type Missing = { readonly name: string; readonly run: string };

/** The artifacts that are in the backup so far. */
class Copied {
  readonly #part: string;
  readonly #shelf: string;
  readonly #options: Pick<BackupOptions, "progress" | "signal">;
  readonly #files = new Map<string, ManifestFile>();
  #told = -1;

  constructor(part: string, shelf: string, options: Pick<BackupOptions, "progress" | "signal">) {
    this.#part = part;
    this.#shelf = shelf;
    this.#options = options;
  }

  get files(): Iterable<ManifestFile> {
    return this.#files.values();
  }

  async all(): Promise<void> {
    for (const name of await namesOn(this.#shelf)) await this.#take(name);
    const { size } = this.#files;
    // Looked at before and after the database: that none came meanwhile is no news.
    if (size !== this.#told) this.#options.progress?.(`${size} artifacts`);
    this.#told = size;
  }

  /** Takes what these runs cannot go on without; the first of it that is not there. */
  async takeNeeded(runs: Awaited<ReturnType<Snapshot["running"]>>): Promise<Missing | undefined> {
    for (const { name: run, plan, header } of runs) {
      const { payload } = decode(SignedEnvelopeSchema, plan, MAX_MESSAGE_BYTES);
      for (const name of needs(parsePlan(payload), decodeHeader(header)))
        if (name && !(await this.#take(name))) return { name, run };
    }
    return undefined;
  }

  /** False for one that is not there, or not any more. */
  async #take(name: string): Promise<boolean> {
    this.#options.signal?.throwIfAborted();
    if (this.#files.has(name)) return true;
    const file = await copyFile(this.#part, `artifacts/${name}`, join(this.#shelf, name));
    if (file && file.sha256 !== name) throw damaged(name, file.sha256);
    if (file) this.#files.set(name, file);
    return file !== undefined;
  }
}

/** Where artifacts are files; null where they are in a bucket, which keeps them by itself. */
export function shelfOf(folder: string, config: Pick<Config, "artifacts">): string | null {
  return config.artifacts.s3 ? null : artifactsFolder(folder, config);
}

/** None on a shelf that is not there: it is made with its first artifact. */
async function namesOn(shelf: string): Promise<string[]> {
  const names = await readdir(shelf).catch((cause: NodeJS.ErrnoException) => {
    if (cause.code === "ENOENT") return [];
    throw cause;
  });
  return names.filter(isArtifact);
}

/**
 * What the coordinator has in the folder beside database and artifacts; no key of authority or owner.
 * @throws Fault("not-found") for one that it cannot serve without.
 */
async function copyOwn(
  part: string,
  folder: string,
  progress: (line: string) => void,
): Promise<ManifestFile[]> {
  const copyTo = (path: string) => copyFile(part, `folder/${path}`, join(folder, path));
  const files: ManifestFile[] = [];
  for (const path of COORDINATOR_FILES) {
    const file = await copyTo(path);
    if (!file) throw missingFile(folder, path);
    files.push(file);
  }
  for (const path of await furtherFiles(folder)) {
    // None that a coordinator reads: an editor's, as `tls.pem~`.
    if (!isPath(`folder/${path}`)) {
      progress(`left out ${JSON.stringify(path)}: no coordinator reads a file of that name`);
      continue;
    }
    const file = await copyTo(path);
    if (file) files.push(file);
  }
  return files;
}

/** What else is there. `peers.pem` is looked for by its name, since it may be a link. */
async function furtherFiles(folder: string): Promise<Set<string>> {
  const [inner, database] = [dirname(PATHS.store), basename(PATHS.store)];
  const entries = await readdir(join(folder, inner), { withFileTypes: true });
  const found = entries.filter((entry) => entry.isFile() && !entry.name.startsWith(database));
  const further = new Set([PATHS.peerCertificates, ...found.map(({ name }) => join(inner, name))]);
  for (const path of COORDINATOR_FILES) further.delete(path);
  return further;
}

/** Undefined for a file that went meanwhile; one that goes while it is read is read to its end. */
async function copyFile(part: string, path: string, from: string): Promise<ManifestFile | undefined> {
  const handle = await open(from).catch((cause: NodeJS.ErrnoException) => {
    if (cause.code === "ENOENT") return undefined;
    throw cause;
  });
  try {
    return handle && (await writeFile(part, path, handle.createReadStream()));
  } finally {
    await handle?.close();
  }
}

function missingFault({ name, run }: Missing): Fault {
  return new Fault("conflict", `artifact ${name.slice(0, 12)} of run ${run}`, {
    expected: `a file that is there, at one of ${TRIES} moments`,
    got: "none",
    todo: "Try again, or with the coordinator stopped. Else the folder of artifacts is damaged",
  });
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
