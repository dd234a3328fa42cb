import { mkdir, open, readdir, readFile, rename, rm, stat } from "node:fs/promises";
import { dirname, join } from "node:path";
import { Fault } from "@tutti/foundation/fault";

/**
 * Replaces a file as a whole: temp file, fsync, rename, fsync of the directory (docs/reliability.md,
 * promise 4). Killed at any point, the old file or the new one is there. @throws Fault("storage").
 */
export async function replaceFile(file: string, content: Uint8Array | string, mode = 0o644): Promise<void> {
  const temporary = `${file}.new`;
  try {
    await writeSynced(temporary, content, mode);
    await rename(temporary, file);
    await syncFolder(dirname(file));
  } catch (cause) {
    await rm(temporary, { force: true }).catch(() => {});
    throw new Fault("storage", file, { expected: "to be written", got: `${cause}`, cause });
  }
}

/** How a folder is called while another takes its place. */
const ASIDE = ".old";

/**
 * Makes a folder with these files appear whole or not at all. One that is there is moved aside, and removed
 * when the new one is in its place; after a kill in between `settleFolders` puts it back.
 * @throws Fault("storage").
 */
export async function replaceFolder(
  folder: string,
  files: Readonly<Record<string, Uint8Array | string>>,
): Promise<void> {
  const temporary = `${folder}.new`;
  const aside = `${folder}${ASIDE}`;
  try {
    await removeFolder(temporary);
    await makeFolder(temporary);
    for (const [name, content] of Object.entries(files)) await writeSynced(join(temporary, name), content);
    await syncFolder(temporary);
    await removeFolder(aside);
    await renameIfThere(folder, aside);
    await rename(temporary, folder);
    await syncFolder(dirname(folder));
    await removeFolder(aside);
  } catch (cause) {
    await removeFolder(temporary).catch(() => {});
    // No folder takes the name of one that has files: the new one stays, if it came that far.
    await rename(aside, folder).catch(() => {});
    throw new Fault("storage", folder, { expected: "to be written", got: `${cause}`, cause });
  }
}

/** What a kill left aside in `parent` takes its name again, or is removed where another has it by now. */
export async function settleFolders(parent: string): Promise<void> {
  const left = (await readdir(parent)).filter((name) => name.endsWith(ASIDE));
  for (const name of left) {
    const aside = join(parent, name);
    const folder = aside.slice(0, -ASIDE.length);
    if (await isFolder(folder)) await removeFolder(aside);
    else await rename(aside, folder);
  }
  if (left.length > 0) await syncFolder(parent);
}

async function removeFolder(folder: string): Promise<void> {
  await rm(folder, { recursive: true, force: true });
}

async function renameIfThere(from: string, to: string): Promise<void> {
  await rename(from, to).catch((cause: NodeJS.ErrnoException) => {
    if (cause.code !== "ENOENT") throw cause;
  });
}

/** Writes and syncs one file; the name it is written under is not yet durable. */
export async function writeSynced(file: string, content: Uint8Array | string, mode = 0o644): Promise<void> {
  const handle = await open(file, "w", mode);
  try {
    await handle.writeFile(content);
    await handle.sync();
  } finally {
    await handle.close();
  }
}

export async function syncFolder(folder: string): Promise<void> {
  const handle = await open(folder, "r");
  try {
    await handle.sync();
  } finally {
    await handle.close();
  }
}

/** A file's bytes; null only when there is none. @throws Fault("storage"), also above `limit` bytes. */
export async function readIfThere(file: string, limit = Infinity): Promise<Uint8Array | null> {
  try {
    const { size } = limit === Infinity ? { size: 0 } : await stat(file);
    if (size > limit) throw new Error(`${size} bytes, more than ${limit}`);
    const bytes = await readFile(file);
    return new Uint8Array(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  } catch (cause) {
    if ((cause as NodeJS.ErrnoException).code === "ENOENT") return null;
    throw new Fault("storage", file, { expected: "to be readable", got: `${cause}`, cause });
  }
}

/**
 * Makes a folder and those above it that are missing, one by one: Node's own recursive mkdir never ends where
 * a file system says of a new name that its parent is missing, as /proc does. @throws Fault("storage") by the
 * name that could not be made.
 */
export async function makeFolder(folder: string, mode?: number): Promise<void> {
  const make = () =>
    mkdir(folder, { mode }).then(
      () => null,
      (cause: NodeJS.ErrnoException) => cause,
    );
  let failed = await make();
  if (failed?.code === "ENOENT" && dirname(folder) !== folder) {
    await makeFolder(dirname(folder), mode);
    failed = await make();
  }
  if (failed === null || (await isFolder(folder))) return;
  throw new Fault("storage", folder, {
    expected: "a folder that can be made",
    got: failed.message,
    cause: failed,
  });
}

async function isFolder(path: string): Promise<boolean> {
  return stat(path).then(
    (found) => found.isDirectory(),
    () => false,
  );
}
