import { createHash, randomBytes, randomInt } from "node:crypto";
import { open, readdir, readFile, readlink, rm, utimes, writeFile } from "node:fs/promises";
import { hostname } from "node:os";
import { join, resolve } from "node:path";
import { type Clock, systemClock } from "@tutti/foundation/clock";
import { Fault } from "@tutti/foundation/fault";

const LOCK = "device.lock";
/** Two that begin at once see each other, and both step back; by chance one of them is then the first. */
const TRIES = 5;
const PAUSE_MS = 50;
/** Between two signs of life of whoever has a folder. */
const BEAT_MS = 3_000;
/** Without one for so long, what cannot be asked is gone. A training step may hold a process up a while. */
const GONE_MS = 10 * BEAT_MS;
const LOOK_MS = 1_000;

/** Folders that this process has, or is about to take. */
const held = new Set<string>();

export type LockOptions = {
  readonly clock?: Pick<Clock, "sleep">;
  /** Is told what is waited for, where that takes long. */
  readonly waits?: (because: string) => void;
  /** The folder is another's now, which took this process for gone: nothing may be written to it any more. */
  readonly lost?: (because: Fault) => void;
  /** Where numbers of processes mean the same; this process's own unless told. */
  readonly place?: string;
};

/**
 * Keeps a device's folder to one process: two would write one log and draw one noise budget. Whoever wants it
 * puts down a claim, an empty file that names its process, and then looks for others: of two, one sees the
 * other's. A claim whose process is gone, however it ended, is nobody's. In another container (another PID
 * namespace) processes cannot be asked; there a claim counts while its file is touched. Resolves with how to
 * let go of the folder. @throws Fault("conflict") while another process has it.
 */
export async function lockFolder(folder: string, options: LockOptions = {}): Promise<() => Promise<void>> {
  const home = resolve(folder);
  // Before anything is waited for: of several that begin in this process at once only one goes on.
  if (held.has(home)) throw taken(folder, `process ${process.pid}`, `${LOCK}-*`);
  held.add(home);
  try {
    const letGo = await take(home, options);
    return async () => {
      await letGo();
      held.delete(home);
    };
  } catch (error) {
    held.delete(home);
    throw error;
  }
}

async function take(home: string, options: LockOptions): Promise<() => Promise<void>> {
  const { clock = systemClock(), lost = () => {}, place = await ownPlace() } = options;
  const own = { pid: process.pid, start: await startOf(process.pid), place };
  for (let tries = 1; ; tries++) {
    const name = nameOf(own);
    const letGo = await claim(join(home, name), () => lost(taken(home, "another that took it over", name)));
    try {
      const other = await holder(home, { ...own, name }, { ...options, clock });
      if (other === null) return letGo;
      // Who gives signs of life in another place is no beginner that steps back at once.
      if (tries === TRIES || other.place !== place) throw taken(home, told(other, place), other.name);
    } catch (error) {
      await letGo();
      throw error;
    }
    await letGo();
    await clock.sleep(randomInt(1, PAUSE_MS));
  }
}

/** A claim is a file of its own name, so taking away one that is dead never takes another's. */
type Claim = {
  readonly name: string;
  readonly pid: number;
  readonly start: string;
  readonly place: string;
};

function nameOf({ pid, start, place }: Omit<Claim, "name">): string {
  return `${LOCK}-${pid}-${start}-${place}-${randomBytes(6).toString("hex")}`;
}

const NAME = /^device\.lock-([1-9][0-9]{0,9})-([0-9]{1,20}|unknown)-([0-9a-f]{16})-[0-9a-f]{12}$/;

async function claims(home: string): Promise<Claim[]> {
  return (await readdir(home)).flatMap((name) => {
    const [, pid, start, place] = NAME.exec(name) ?? [];
    return pid && start && place ? [{ name, pid: Number(pid), start, place }] : [];
  });
}

/** Puts a claim down, and touches it until it is taken away again. */
async function claim(file: string, lost: () => void): Promise<() => Promise<void>> {
  try {
    await writeFile(file, "", { flag: "wx" });
  } catch (cause) {
    throw new Fault("storage", file, { expected: "to be written", got: `${cause}`, cause });
  }
  let ended = false;
  const beat = setInterval(async () => {
    const now = new Date();
    // A disk that fails once may go on; a claim that is not there was taken away.
    const code = await utimes(file, now, now).catch((cause: NodeJS.ErrnoException) => cause.code);
    if (code !== "ENOENT" || ended) return;
    clearInterval(beat);
    lost();
  }, BEAT_MS);
  beat.unref();
  return async () => {
    ended = true;
    clearInterval(beat);
    await rm(file, { force: true });
  };
}

type Looking = LockOptions & { readonly clock: Pick<Clock, "sleep"> };

/** Whose folder it is, other than this claim's; null for nobody's. */
async function holder(home: string, own: Claim, looking: Looking): Promise<Claim | null> {
  const others = (await claims(home)).filter(({ name }) => name !== own.name);
  // All at once: each that cannot be asked takes long.
  const alive = await Promise.all(others.map((other) => isAlive(home, { own, other, looking })));
  for (const [at, { name }] of others.entries()) if (!alive[at]) await rm(join(home, name), { force: true });
  return others.find((_, at) => alive[at]) ?? null;
}

type Pair = { readonly own: Claim; readonly other: Claim; readonly looking: Looking };

/** Whether the process that a claim names is there, and is the same: numbers of processes come again. */
async function isAlive(home: string, { own, other, looking }: Pair): Promise<boolean> {
  const { clock, waits = () => {} } = looking;
  if (other.place === own.place) {
    if (!isThere(other.pid)) return false;
    const start = await startOf(other.pid);
    if (start !== "unknown" && other.start !== "unknown") return start === other.start;
  }
  waits(`${told(other, own.place)} may use ${home}: waiting up to ${GONE_MS / 1000} s for a sign of it`);
  return await beats(join(home, other.name), clock);
}

/** No wall clock is asked: what counts is whether the file is touched while this process looks. */
async function beats(file: string, clock: Pick<Clock, "sleep">): Promise<boolean> {
  const before = await touchedMs(file);
  for (let waitedMs = 0; waitedMs < GONE_MS; waitedMs += LOOK_MS) {
    await clock.sleep(LOOK_MS);
    const now = await touchedMs(file);
    if (now !== before) return now !== null;
  }
  return false;
}

/** Opened for it: a file system on the network would else say what it remembers. Null: no file. */
async function touchedMs(file: string): Promise<number | null> {
  try {
    const handle = await open(file);
    return await handle
      .stat()
      .then(({ mtimeMs }) => mtimeMs)
      .finally(() => handle.close());
  } catch (cause) {
    if ((cause as NodeJS.ErrnoException).code === "ENOENT") return null;
    throw new Fault("storage", file, { expected: "to be readable", got: `${cause}`, cause });
  }
}

function isThere(pid: number): boolean {
  try {
    process.kill(pid, 0);
    return true;
  } catch (cause) {
    // Another user's process cannot be asked, but it is there.
    return (cause as NodeJS.ErrnoException).code === "EPERM";
  }
}

/** When a process began, as Linux counts it (proc(5), field 22); "unknown" elsewhere. */
async function startOf(pid: number): Promise<string> {
  const stat = await readFile(`/proc/${pid}/stat`, "utf8").catch(() => null);
  // The second field, a name in brackets, may hold spaces and brackets itself.
  return stat?.slice(stat.lastIndexOf(")") + 2).split(" ")[19] ?? "unknown";
}

/** A boot of a machine and a PID namespace on it (pid_namespaces(7)); by chance, where that is not told. */
async function ownPlace(): Promise<string> {
  const told =
    process.platform === "linux"
      ? await Promise.all([
          readFile("/proc/sys/kernel/random/boot_id", "utf8"),
          readlink("/proc/self/ns/pid"),
        ]).catch(() => [randomBytes(8).toString("hex")])
      : [process.platform, hostname()];
  return createHash("sha256").update(told.join(" ")).digest("hex").slice(0, 16);
}

function told({ pid, place }: Claim, here: string): string {
  return place === here ? `process ${pid}` : `process ${pid} of another container or machine`;
}

function taken(folder: string, got: string, name: string): Fault {
  return new Fault("conflict", folder, {
    expected: "no other process that uses this folder",
    got,
    todo: `Stop that one; if there is none, remove ${name}`,
  });
}
