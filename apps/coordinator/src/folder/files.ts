import { mkdir, open, rename, stat } from "node:fs/promises";
import { dirname } from "node:path";
import { Fault } from "@tutti/foundation/fault";

/** What making a folder or a file failed of, in the system's words: they name the path and the reason. */
export function storageFault(path: string, cause: unknown): Fault {
  if (cause instanceof Fault) return cause;
  const got = cause instanceof Error ? cause.message : `${cause}`;
  return new Fault("storage", path, { got, cause });
}

/** Makes the names in a folder durable; without it a crash may lose a file whose bytes were synced. */
export async function syncFolder(folder: string): Promise<void> {
  const handle = await open(folder, "r");
  try {
    await handle.sync();
  } finally {
    await handle.close();
  }
}

/** A new file, its bytes synced; fails if there is one already. */
export async function writeSynced(file: string, bytes: Uint8Array | string, mode = 0o644): Promise<void> {
  const handle = await open(file, "wx", mode);
  try {
    await handle.writeFile(bytes);
    await handle.sync();
  } finally {
    await handle.close();
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

/** Puts a finished file or folder under its name: before a crash or after it, whole or not there. */
export async function publish(from: string, to: string): Promise<void> {
  await rename(from, to);
  await syncFolder(dirname(to));
}
