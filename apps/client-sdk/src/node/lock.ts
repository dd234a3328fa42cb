import { randomBytes } from "node:crypto";
import { link, readFile, rename, rm, writeFile } from "node:fs/promises";
import { resolve } from "node:path";
import { Fault } from "@tutti/foundation/fault";

const LOCK = "device.lock";
/** Two processes may take away a lock that nobody holds at once; then one of them sees the other's. */
const TRIES = 5;

/** Locks that this process has, or is about to take. */
const held = new Set<string>();

/**
 * Keeps a device's folder to one process: two would write one log and draw one noise budget. The lock is a
 * file that names its process; one whose process is gone, however it ended, is nobody's. Resolves with how to
 * let go of it. @throws Fault("conflict") while another process has it.
 */
export async function lockFolder(folder: string): Promise<() => Promise<void>> {
  const file = resolve(folder, LOCK);
  // Before anything is waited for: of several that begin in this process at once only one goes on.
  if (held.has(file)) throw taken(folder, process.pid);
  held.add(file);
  try {
    await takeFile(file, folder);
  } catch (error) {
    held.delete(file);
    throw error;
  }
  return async () => {
    await rm(file, { force: true });
    held.delete(file);
  };
}

async function takeFile(file: string, folder: string): Promise<void> {
  const own = `${process.pid} ${await startOf(process.pid)}\n`;
  for (let tries = 0; tries < TRIES; tries++) {
    if (await appears(file, own)) return;
    const other = await textOf(file);
    if (other === null) continue;
    const pid = Number.parseInt(other, 10);
    // One that names this process was left by another that had its number.
    if (pid !== process.pid && (await isAlive(other))) throw taken(folder, pid);
    await removed(file, other);
  }
  throw taken(folder, null);
}

/** Makes the file with this text, whole, unless there is one. */
async function appears(file: string, text: string): Promise<boolean> {
  const temporary = `${file}.${randomBytes(6).toString("hex")}`;
  try {
    await writeFile(temporary, text, { flag: "wx" });
    await link(temporary, file);
    return true;
  } catch (cause) {
    if ((cause as NodeJS.ErrnoException).code === "EEXIST") return false;
    throw new Fault("storage", file, { expected: "to be written", got: `${cause}`, cause });
  } finally {
    await rm(temporary, { force: true });
  }
}

/** Takes away a lock that nobody holds, and no other one that somebody put there meanwhile. */
async function removed(file: string, text: string): Promise<void> {
  const aside = `${file}.${randomBytes(6).toString("hex")}`;
  try {
    await rename(file, aside);
  } catch {
    // Somebody else took it away.
    return;
  }
  if ((await textOf(aside)) !== text) await link(aside, file).catch(() => {});
  await rm(aside, { force: true });
}

async function textOf(file: string): Promise<string | null> {
  return await readFile(file, "utf8").catch(() => null);
}

/** Whether the process that a lock names is there, and is the same: numbers of processes come again. */
async function isAlive(text: string): Promise<boolean> {
  const [pid, start] = text.trim().split(" ");
  const number = Number(pid);
  if (!Number.isSafeInteger(number) || number <= 0) return false;
  try {
    process.kill(number, 0);
  } catch (cause) {
    // Another user's process cannot be asked, but it is there.
    if ((cause as NodeJS.ErrnoException).code !== "EPERM") return false;
  }
  return (await startOf(number)) === start;
}

/** When a process began, as Linux counts it (proc(5), field 22); "unknown" elsewhere. */
async function startOf(pid: number): Promise<string> {
  const stat = await textOf(`/proc/${pid}/stat`);
  // The second field, a name in brackets, may hold spaces and brackets itself.
  return stat?.slice(stat.lastIndexOf(")") + 2).split(" ")[19] ?? "unknown";
}

function taken(folder: string, pid: number | null): Fault {
  return new Fault("conflict", folder, {
    expected: "no other process that uses this folder",
    got: pid === null ? "another one that is just beginning" : `process ${pid}`,
    todo: `Stop that one; if there is none, remove ${LOCK}`,
  });
}
