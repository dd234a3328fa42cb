import { createReadStream } from "node:fs";
import { mkdir, readdir, readFile, rename, rm, stat, writeFile as write } from "node:fs/promises";
import { dirname, join, relative, resolve } from "node:path";
import { createInterface } from "node:readline";
import { Fault } from "@tutti/foundation/fault";
import { sha256Hex } from "@tutti/foundation/hash";
import { openArtifacts } from "../artifacts.ts";
import { type Config, configText, parseConfig } from "../folder/config.ts";
import { makeFolder, storageFault, syncFolder } from "../folder/files.ts";
import { PATHS } from "../folder/layout.ts";
import { openDatabase, postgresUrl } from "../store/database.ts";
import { load, TABLE_NAMES } from "../store/dump.ts";
import { FOLDERS, readMigrations } from "../store/migrate.ts";
import { shelfOf } from "./backup.ts";
import { checkFile, syncTree, writeFile } from "./files.ts";
import { MANIFEST, type Manifest, parseManifest } from "./manifest.ts";

export type RestoreOptions = {
  /** The folder that `backUp` made. */
  readonly from: string;
  /** A new folder for the coordinator. */
  readonly folder: string;
  /** Instead of the database that the backup's tutti.json names; for PostgreSQL an empty one. */
  readonly store?: Config["store"];
  /** Hex SHA-256 of the manifest, as it was noted when the backup was made. */
  readonly expected?: string;
  /** The wall clock. */
  readonly nowMs: number;
  readonly progress?: (line: string) => void;
  /** Stops it, and leaves nothing behind: what is half restored holds the coordinator's keys. */
  readonly signal?: AbortSignal;
};

export type Restored = { readonly manifest: Manifest; readonly epoch: number; readonly sha256: string };

/** A manifest with a million artifacts is below it. */
const MAX_MANIFEST_BYTES = 512 << 20;

/**
 * Makes a coordinator's folder and fills its database from a backup. Every file is checked before anything is
 * written, and nothing that is there is overwritten. The epoch that follows is above any that may have
 * followed the backup's, so a coordinator of before that still runs can write nothing here.
 * @throws the signal's reason, among others. Nothing is left behind then, unless nobody knows whether
 * PostgreSQL is filled: the folder is whole then, and the Fault says how to find out.
 */
export async function restore(options: RestoreOptions): Promise<Restored> {
  const { from, nowMs, progress = () => {}, signal } = options;
  const folder = resolve(options.folder);
  const { manifest, sha256 } = await checked(options);
  progress(`${manifest.files.length} files are as the manifest says`);
  await mustBeNew(folder);
  const part = `${folder}.${process.pid}.part`;
  let there = part;
  let isCommitting = false;
  try {
    await makeFolder(dirname(folder));
    await mkdir(part, { mode: 0o700 });
    const config = await placeFolder(part, { manifest, ...options });
    const shelf = shelfOf(part, config);
    if (shelf !== null) await placeArtifacts(part, { ...options, manifest, shelf });
    await mustBeNamed(part, config);
    const seal = async () => {
      try {
        await rename(part, folder);
        there = folder;
        await syncFolder(dirname(folder));
      } catch (cause) {
        throw storageFault(folder, cause);
      }
    };
    const database = await openDatabase(part, config);
    const lines = (table: string) => linesOf(join(from, "store", `${table}.jsonl`), signal);
    // A database elsewhere is filled in one transaction with the folder's name: neither is without the other.
    const isElsewhere = database.name === "postgres";
    if (isElsewhere) await syncTree(part);
    const filling = { lines, epoch: manifest.epoch, manifest: sha256, wallMs: nowMs };
    const last = async () => {
      await seal();
      isCommitting = true;
    };
    const loading = load(database, { ...filling, ...(isElsewhere && { last }) });
    const epoch = await loading.finally(() => database.close());
    progress(`the database, at epoch ${epoch}`);
    if (isElsewhere) return { manifest, epoch, sha256 };
    await syncTree(part);
    await seal();
    return { manifest, epoch, sha256 };
  } catch (cause) {
    // A database that may be filled keeps the folder without which its federation is lost.
    if (isCommitting) throw unknown(options.folder, cause);
    await rm(there, { recursive: true, force: true }).catch(() => {});
    // Whatever it was that the stop came through.
    signal?.throwIfAborted();
    throw storageFault(folder, cause);
  }
}

/** The COMMIT's answer was lost, or was no yes. */
function unknown(folder: string, cause: unknown): Fault {
  const { code, message } = storageFault(folder, cause);
  return new Fault(code, folder, {
    expected: "the database's word that it is filled",
    got: `${JSON.stringify(message)}, so nobody knows, and the folder stays`,
    todo:
      `Ask \`tutti doctor ${folder}\`: where its line \`leader\` tells an epoch, all is there, and ` +
      "`tutti serve` may start; where nobody has led yet the database is empty: remove the folder and " +
      "restore again",
    cause,
  });
}

/** The manifest, once all that it names was found as it says. */
async function checked({
  from,
  expected,
  signal,
}: RestoreOptions): Promise<{ manifest: Manifest; sha256: string }> {
  const file = join(from, MANIFEST);
  const found = await stat(file).catch(() => undefined);
  if (!found || found.size > MAX_MANIFEST_BYTES)
    throw new Fault("not-found", file, {
      expected: "a backup's manifest",
      got: found ? `${found.size} bytes` : "none",
      todo: "Name the folder that `tutti backup` made",
    });
  const bytes = await readFile(file);
  const sha256 = sha256Hex(new Uint8Array(bytes));
  if (expected !== undefined && expected.toLowerCase() !== sha256)
    throw new Fault("refused", file, { expected: `SHA-256 ${expected}`, got: sha256 });
  const manifest = parseManifest(bytes.toString("utf8"));
  const names = new Set(manifest.files.map(({ path }) => path));
  const missing = TABLE_NAMES.find((table) => !names.has(`store/${table}.jsonl`));
  const { length: known } = await readMigrations(FOLDERS.sqlite);
  if (manifest.migrations !== known || missing !== undefined)
    throw new Fault("unsupported", file, {
      expected: `migration ${known}`,
      got: `${manifest.migrations}`,
      todo: "Restore with the Tutti that made it, and then go on with this one",
    });
  for (const one of manifest.files) {
    signal?.throwIfAborted();
    await checkFile(from, one);
  }
  return { manifest, sha256 };
}

type Placing = RestoreOptions & { readonly manifest: Manifest };

async function placeFolder(part: string, { manifest, from, store, signal }: Placing): Promise<Config> {
  for (const { path } of manifest.files) {
    signal?.throwIfAborted();
    if (!path.startsWith("folder/")) continue;
    await writeFile(part, path.slice("folder/".length), createReadStream(join(from, path)));
  }
  const file = join(part, PATHS.config);
  const config = parseConfig(await readFile(file, "utf8"));
  if (!store) return config;
  const text = configText({ ...JSON.parse(await readFile(file, "utf8")), store });
  await write(file, text);
  return parseConfig(text);
}

type Shelving = Placing & { readonly shelf: string };

async function placeArtifacts(
  part: string,
  { from, manifest, shelf, signal, progress }: Shelving,
): Promise<void> {
  await makeFolder(shelf);
  const there = new Set(await readdir(shelf));
  const artifacts = openArtifacts(shelf);
  let added = 0;
  try {
    for (const { path, bytes, sha256 } of manifest.files) {
      signal?.throwIfAborted();
      if (!path.startsWith("artifacts/")) continue;
      if (path !== `artifacts/${sha256}`)
        throw new Fault("refused", join(from, path), { expected: "a file named by its hash", got: sha256 });
      // A shelf that coordinators share may have it still; it is checked all the same.
      if (there.has(sha256) && (await artifacts.read(sha256).catch(() => null))) continue;
      await artifacts.put(sha256, createReadStream(join(from, path)), bytes);
      added += 1;
    }
  } finally {
    // Not taken away again where this restore fails: another coordinator of that shelf may use them by then.
    const isElsewhere = relative(part, shelf).startsWith("..");
    if (isElsewhere && added > 0) progress?.(`${added} artifacts put into ${shelf}; they stay there`);
  }
}

async function* linesOf(file: string, signal: AbortSignal | undefined): AsyncGenerator<string> {
  const lines = createInterface({ input: createReadStream(file), crlfDelay: Number.POSITIVE_INFINITY });
  for await (const line of lines) {
    signal?.throwIfAborted();
    yield line;
  }
}

/** A secret is in no backup: a file that tutti.json names beside itself is not in the new folder either. */
async function mustBeNamed(part: string, { store }: Config): Promise<void> {
  if (store.engine === "sqlite" || store.url !== undefined) return;
  await postgresUrl(part, store).catch((cause: Fault) => {
    if (cause.code !== "not-found") throw cause;
    throw new Fault("not-found", `${store.urlFile}`, {
      expected: "the file with the database's URL, which no backup has",
      got: "none",
      todo: "Name an empty database with --postgres <url-file>, or say --sqlite",
      cause,
    });
  });
}

async function mustBeNew(folder: string): Promise<void> {
  const there = await stat(folder).then(
    () => true,
    () => false,
  );
  if (!there) return;
  throw new Fault("conflict", folder, {
    expected: "a new folder",
    got: "one that exists",
    todo: "Name another; a restore overwrites nothing",
  });
}
