import { randomBytes } from "node:crypto";
import { statSync } from "node:fs";
import { link, lstat, open, readdir, realpath, rename, rm, stat } from "node:fs/promises";
import { basename, dirname, join, resolve } from "node:path";
import { makeFolder, syncFolder } from "@tutti/client-sdk/node/atomic";
import { Fault } from "@tutti/foundation/fault";
import { undisturbed } from "./action.ts";
import type { ModelFile } from "./model-file.ts";

export type WriteOptions = {
  readonly force?: boolean | undefined;
  /** Of new files, as for `open`. */
  readonly mode?: number;
  /** What a user may do about a file that is there already. */
  readonly todo?: string;
  /**
   * The one of these files that vouches for the others. It goes first and comes last: killed at any moment,
   * where it is there all of the others are those it vouches for. Folders written to are this call's own:
   * what a killed one left in them is removed.
   */
  readonly seal?: string;
};

/** Paths and what to write there. */
export type Files = Iterable<readonly [path: string, content: Uint8Array | string]>;

/** One file on its way: written beside its place, then moved there; what was there stands aside. */
type Move = {
  readonly path: string;
  readonly beside: string;
  readonly aside: string;
  /** Names in the file system that are ours to take away again. */
  readonly made: Set<string>;
};

/**
 * Writes all of these files or none: each beside its place first and synced, then every one moved there.
 * Where one cannot be, those that were there are put back. A Ctrl-C waits until that is done.
 * @throws Fault("conflict") for a file that exists, unless forced, for a folder in a file's place, and for
 * two files of one path; nothing is written then. Fault("storage") where the disk says no.
 */
export async function writeAll(files: Files, options: WriteOptions = {}): Promise<void> {
  return undisturbed(() => written(files, options));
}

async function written(files: Files, options: WriteOptions): Promise<void> {
  const all = [...files];
  refuseTwice(all.map(([path]) => path));
  for (const [path] of all) await refuseTaken(path, options);
  const moves: Move[] = [];
  try {
    for (const [path, content] of all) {
      await makeFolder(dirname(path));
      const move = moveTo(path);
      moves.push(move);
      await writeBeside(move, { content, mode: options.mode });
    }
    await refuseOnePlace(moves);
    await placeAll(moves, options);
  } catch (cause) {
    await putAllBack(moves, options);
    throw asStorage(cause, all);
  }
  for (const move of moves) await cleared(move);
  if (options.seal !== undefined) for (const folder of foldersOf(moves)) await clearLeft(folder);
}

async function placeAll(moves: readonly Move[], options: WriteOptions): Promise<void> {
  const seal = moves.find(({ path }) => path === options.seal);
  if (seal) await setAside(seal, options);
  const others = moves.filter((move) => move !== seal);
  for (const move of others) await place(move, options);
  await syncFolders(others);
  if (seal) await place(seal, options);
  if (seal) await syncFolders([seal]);
}

/** Before a power cut too: gone is gone when the first of the others comes. */
async function setAside(seal: Move, options: WriteOptions): Promise<void> {
  await refuseTaken(seal.path, options);
  if (!(await exists(seal.path))) return;
  await rename(seal.path, seal.aside);
  seal.made.add(seal.aside);
  await syncFolders([seal]);
}

function foldersOf(moves: readonly Move[]): Set<string> {
  return new Set(moves.map(({ path }) => dirname(path)));
}

/** Not every file system can sync a folder, as those of other machines. */
const NO_SYNC = ["EINVAL", "ENOTSUP", "EPERM", "EISDIR"];

async function syncFolders(moves: readonly Move[]): Promise<void> {
  for (const folder of foldersOf(moves))
    await syncFolder(folder).catch((cause: NodeJS.ErrnoException) => {
      if (!NO_SYNC.includes(cause.code ?? "")) throw cause;
    });
}

/** What a killed call wrote beside a place, or put aside. */
export const isLeft = (name: string): boolean => /^\.[0-9a-f]{16}\.(new|old)$/.test(name);

async function clearLeft(folder: string): Promise<void> {
  for (const name of (await readdir(folder).catch(() => [])).filter(isLeft))
    await rm(join(folder, name), { force: true }).catch(() => {});
}

function moveTo(path: string): Move {
  const name = (end: string) => join(dirname(path), `.${randomBytes(8).toString("hex")}.${end}`);
  return { path, beside: name("new"), aside: name("old"), made: new Set() };
}

/** Marked as ours as soon as it is there: a full disk leaves half of it. */
async function writeBeside(
  { beside, made }: Move,
  { content, mode }: { content: Uint8Array | string; mode: number | undefined },
): Promise<void> {
  const file = await open(beside, "wx", mode);
  made.add(beside);
  try {
    await file.writeFile(content);
    await file.sync();
  } finally {
    await file.close();
  }
}

/**
 * What is replaced keeps a second name until all are placed, so at every moment one of both is there. What is
 * not to be replaced is linked: that fails where a file is, also one that came since we looked.
 */
async function place({ path, beside, aside, made }: Move, options: WriteOptions): Promise<void> {
  await refuseTaken(path, options);
  if (await exists(path)) {
    // Some file systems have no links.
    await link(path, aside).catch(() => rename(path, aside));
    made.add(aside);
    await rename(beside, path);
  } else {
    await link(beside, path).catch(async () => {
      if (await exists(path)) throw taken(path, options);
      await rename(beside, path);
    });
  }
  made.add(path);
}

/** The last first: a file stands where it was put until what it replaced is back. */
async function putAllBack(moves: readonly Move[], options: WriteOptions): Promise<void> {
  const seal = moves.find(({ path }) => path === options.seal);
  // It vouches for none of a mixture: gone while the others are put back, and back after them.
  if (seal?.made.delete(seal.path)) await rm(seal.path, { force: true }).catch(() => {});
  for (const move of moves.toReversed()) if (move !== seal) await putBack(move);
  if (!seal) return;
  await syncFolders(moves).catch(() => {});
  await putBack(seal);
}

/** Best effort: a disk that failed may fail again, and then the first failure is the one to tell. */
async function putBack({ path, beside, aside, made }: Move): Promise<void> {
  const ignore = () => {};
  if (made.has(aside)) await rename(aside, path).catch(ignore);
  else if (made.has(path)) await rm(path, { force: true }).catch(ignore);
  await cleared({ beside, aside, made });
}

async function cleared({ beside, aside, made }: Omit<Move, "path">): Promise<void> {
  for (const name of [beside, aside]) if (made.has(name)) await rm(name, { force: true }).catch(() => {});
}

/** Files that one error names. */
const MOST_NAMED = 8;

function asStorage(cause: unknown, files: readonly (readonly [string, unknown])[]): Fault {
  if (cause instanceof Fault) return cause;
  const got = (cause as Error).message;
  const named = files.slice(0, MOST_NAMED).map(([path]) => path);
  const more = files.length > MOST_NAMED ? ` and ${files.length - MOST_NAMED} more` : "";
  const what = `writing ${named.join(", ")}${more}`;
  return new Fault("storage", what, { expected: "room", got, cause });
}

/** lstat: a link that leads nowhere is there, too. */
async function exists(path: string): Promise<boolean> {
  return lstat(path).then(
    () => true,
    () => false,
  );
}

async function refuseTaken(path: string, options: WriteOptions): Promise<void> {
  if (!(await exists(path))) return;
  const folder = await stat(path).then(
    (found) => found.isDirectory(),
    () => false,
  );
  if (folder)
    throw new Fault("conflict", path, { expected: "a file", got: "a folder", todo: "Name another" });
  if (!options.force) throw taken(path, options);
}

function taken(path: string, { todo = "Name another, or give --force" }: WriteOptions): Fault {
  return new Fault("conflict", path, { expected: "a new file", got: "one that exists", todo });
}

function refuseTwice(paths: readonly string[]): void {
  const seen = new Set<string>();
  for (const path of paths.map((one) => resolve(one))) {
    if (seen.has(path)) {
      const todo = "Name the output differently";
      throw new Fault("conflict", path, { expected: "one file to write", got: "two of that path", todo });
    }
    seen.add(path);
  }
}

/** The same where folders are links: they all exist by now. */
async function refuseOnePlace(moves: readonly Move[]): Promise<void> {
  const places: string[] = [];
  for (const { path } of moves) places.push(join(await realpath(dirname(path)), basename(path)));
  refuseTwice(places);
}

/**
 * The files of a model made from `base`: the model names its weight files as the base does, so those it needs
 * come along, changed or not.
 * @throws Fault("conflict") where a file would take the place of one of the base's, forced or not, or the
 * model that of a weight file.
 */
export function modelFiles(
  out: string,
  model: Uint8Array,
  { base, changed = new Map() }: { base: ModelFile; changed?: ReadonlyMap<string, Uint8Array> },
): readonly (readonly [string, Uint8Array])[] {
  const beside = [...base.beside].map(([location, bytes]) => {
    return [join(dirname(out), location), changed.get(location) ?? bytes] as const;
  });
  const files = [...beside, [out, model] as const];
  const paths = files.map(([path]) => path);
  refuseOwn(paths, base);
  refuseTwice(paths);
  return files;
}

/**
 * Files are told by what they are in the file system, not by their names: links and `./` lead to the same.
 * @throws Fault("conflict") where one of the paths is a file of the base's, itself or its weights.
 */
export function refuseOwn(paths: readonly string[], base: ModelFile): void {
  const own = [base.path, ...[...base.beside.keys()].map((location) => join(dirname(base.path), location))];
  const read = new Set(own.map(identityOf).filter((one) => one !== undefined));
  for (const path of paths) {
    if (!read.has(identityOf(path) ?? "")) continue;
    const todo = "Write into a folder of its own";
    throw new Fault("conflict", path, { expected: "another file than the model's own", todo });
  }
}

/** Device and number of the file that a path leads to; undefined where there is none to lose. */
function identityOf(path: string): string | undefined {
  const found = statSync(path, { bigint: true, throwIfNoEntry: false });
  return found && `${found.dev}:${found.ino}`;
}
