import { randomBytes } from "node:crypto";
import { open, readFile, rm, statfs } from "node:fs/promises";
import { join } from "node:path";
import { examine, type Finding, type Look } from "@tutti/foundation/finding";

const NODE: readonly [number, number] = [20, 19];
const MIB = 2 ** 20;

/** `folder`: where this machine keeps what must last; null where other machines do. */
export function machineChecks(folder: string | null, connections: number): Promise<Finding>[] {
  return [
    examine("Node.js", () => nodeVersion(process.versions.node)),
    examine("clock", () => clockOf(Date.now())),
    examine("open files", async () => openFiles(await limits(), connections)),
    ...(folder === null
      ? []
      : [examine("disk space", () => space(folder)), examine("disk writes", () => writes(folder))]),
  ];
}

export function nodeVersion(version: string): Look {
  const [major = 0, minor = 0] = version.split(".").map(Number);
  const fits = major > NODE[0] || (major === NODE[0] && minor >= NODE[1]);
  if (fits) return { state: "ok", says: version };
  return { state: "fail", says: version, todo: `Install Node.js ${NODE.join(".")} or newer` };
}

/** No other clock is asked here: only what cannot be. */
export function clockOf(nowMs: number): Look {
  const says = new Date(nowMs).toISOString();
  const year = new Date(nowMs).getUTCFullYear();
  if (year >= 2025 && year < 2100) return { state: "ok", says };
  return { state: "fail", says, todo: "Set the clock: certificates count by it" };
}

async function limits(): Promise<string> {
  return await readFile("/proc/self/limits", "utf8").catch(() => "");
}

/** Each connection is a file; the database and the log need a few dozen more. */
export function openFiles(limits: string, connections: number): Look {
  const soft = /^Max open files\s+(\d+|unlimited)/m.exec(limits)?.[1];
  if (soft === undefined) return { state: "ok", says: "the system does not tell its limit" };
  const most = soft === "unlimited" ? Number.POSITIVE_INFINITY : Number(soft);
  const needs = connections + 256;
  if (most >= needs) return { state: "ok", says: `${soft} may be open` };
  const todo = `Raise it to ${needs} (LimitNOFILE in the unit, ulimit -n), or lower limits.connections`;
  return { state: "warn", says: `${soft} may be open, ${connections} connections are allowed`, todo };
}

async function space(folder: string): Promise<Look> {
  const { bavail, bsize } = await statfs(folder);
  const free = Math.floor((Number(bavail) * Number(bsize)) / MIB);
  const says = `${free} MiB free`;
  const todo = "Make room: a coordinator that cannot write refuses every upload";
  if (free < 100) return { state: "fail", says, todo };
  return free < 1024 ? { state: "warn", says, todo } : { state: "ok", says };
}

/** One small file, written, synced and removed: nothing else tells whether that works. */
async function writes(folder: string): Promise<Look> {
  const file = join(folder, `.doctor-${randomBytes(6).toString("hex")}`);
  const todo = "Let this user write there, and use a disk on which fsync works";
  try {
    const handle = await open(file, "wx", 0o600);
    try {
      await handle.writeFile("tutti doctor\n");
      await handle.sync();
    } finally {
      await handle.close();
      await rm(file, { force: true });
    }
    return { state: "ok", says: "written and synced" };
  } catch (cause) {
    return { state: "fail", says: `${(cause as Error).message}`, todo };
  }
}
