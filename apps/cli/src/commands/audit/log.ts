import { createReadStream } from "node:fs";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { Checker, type Head } from "@tutti/audit/chain";
import type { Entry } from "@tutti/audit/entry";
import { Fault } from "@tutti/foundation/fault";

/** Whose log: a federation's coordinator, or a device's own. */
export type Whose = { readonly federation?: string; readonly device?: string };

/** A log that was read to its end, every line held to its hash. */
export type Read = {
  readonly of: string;
  readonly head: Head;
  /** So many entries are not there. */
  readonly begins: number;
  /** When the last of them were removed, and how many at once; null where no entry tells of it. */
  readonly removed: { readonly at: string; readonly entries: number } | null;
  /** Remembered heads of entries that are not there, which nobody can check. */
  readonly unreachable: number;
  readonly torn: number;
};

export type Reading = {
  readonly remembered?: readonly Head[];
  /** Each entry in order, and its line. */
  readonly takes?: (entry: Entry, line: string) => void;
  /** Files with exported older parts of a coordinator's log, in any order. */
  readonly older?: readonly string[];
};

/**
 * Reads a whole log, also while its coordinator or device runs.
 * @throws Fault("refused") naming the first line that is not as it was written.
 */
export async function readLog(
  { federation = "federation", device }: Whose,
  { remembered = [], takes, older = [] }: Reading = {},
): Promise<Read> {
  if (device !== undefined) return await readDevice(device, takes);
  const { readConfig } = await import("@tutti/coordinator/folder/layout");
  const { openReader } = await import("@tutti/coordinator/store/reader");
  const { AUDIT_OWNER } = await import("@tutti/coordinator/store/audit");
  const config = await readConfig(federation);
  const parts: { file: string; begins: Head; head: Head }[] = [];
  for (const file of older) parts.push(await partOf(file, AUDIT_OWNER));
  parts.sort((a, b) => a.begins.count - b.begins.count);
  const reader = await openReader(federation, config);
  try {
    const heads = [...remembered, ...parts.flatMap(({ begins, head }) => [begins, head])];
    const lines = linesOf(parts.map(({ file }) => file));
    const read = await reader.audit(heads, { ...(takes && { takes }), older: lines });
    const { begins, removed, unreachable } = read;
    return {
      of: `the coordinator of ${config.name}`,
      head: { count: read.count, hash: read.hash },
      begins: begins.count,
      removed: removed && { at: removed.at, entries: removed.to - removed.from },
      unreachable,
      torn: 0,
    };
  } finally {
    await reader.close();
  }
}

/** An exported part by itself: from which head to which. */
async function partOf(file: string, owner: string): Promise<{ file: string; begins: Head; head: Head }> {
  const checker = new Checker(owner, [], "elsewhere");
  try {
    for await (const line of linesOf([file])) checker.take(line);
  } catch (cause) {
    const fault = cause instanceof Fault ? cause : null;
    const expected = "an exported part of the log";
    throw fault === null
      ? new Fault("not-found", file, { expected, got: `${cause}`, cause })
      : new Fault(fault.code, `${file}: ${fault.what}`, fault.detail);
  }
  return { file, begins: checker.begins, head: checker.end() };
}

async function* linesOf(files: readonly string[]): AsyncGenerator<string> {
  for (const file of files) yield* createInterface({ input: createReadStream(file, "utf8") });
}

async function readDevice(folder: string, takes?: Reading["takes"]): Promise<Read> {
  const { FILES, readConfig } = await import("@tutti/client-sdk/node/folder");
  const { read } = await import("@tutti/client-sdk/node/audit");
  const { name } = await readConfig(folder);
  const { head, torn, begins } = read(join(folder, FILES.audit), name, takes);
  return { of: `device ${name}`, head, begins, removed: null, unreachable: 0, torn };
}

/** Heads of the coordinator's log that a device was told, and wrote down in its own. */
export async function headsOf(folder: string): Promise<Head[]> {
  const { headTold } = await import("@tutti/client-sdk/node/audit");
  const heads: Head[] = [];
  await readDevice(folder, (entry) => {
    const head = headTold(entry);
    if (head && head.count > 0) heads.push(head);
  });
  return heads;
}

/** What of a log is not there, in a sentence; empty for a whole one. */
export function missingOf({ begins, removed }: Read): string {
  if (begins === 0) return "";
  if (removed === null) return `entries before ${begins} are in an older file that is not here`;
  return `entries before ${begins} are not there; the last ${removed.entries} were removed at ${removed.at}`;
}
