import { access } from "node:fs/promises";
import { join } from "node:path";
import type { Head } from "@tutti/audit/chain";
import type { Entry } from "@tutti/audit/entry";
import { Fault } from "@tutti/foundation/fault";

/** Whose log: a federation's coordinator, or a device's own. */
export type Whose = { readonly federation?: string; readonly device?: string };

/** A log that was read to its end, every line held to its hash. */
export type Read = { readonly of: string; readonly head: Head; readonly torn: number };

/**
 * Reads a whole log, also while its coordinator or device runs; `takes` gets each entry in order.
 * @throws Fault("refused") naming the first line that is not as it was written.
 */
export async function readLog(
  { federation = "federation", device }: Whose,
  remembered: readonly Head[],
  takes: (entry: Entry) => void = () => {},
): Promise<Read> {
  if (device !== undefined) return await readDevice(device, takes);
  const { readConfig } = await import("@tutti/coordinator/folder/layout");
  const { openReader } = await import("@tutti/coordinator/store/reader");
  const config = await readConfig(federation);
  const reader = await openReader(federation, config);
  try {
    const head = await reader.audit(remembered, takes);
    return { of: `the coordinator of ${config.name}`, head, torn: 0 };
  } finally {
    await reader.close();
  }
}

async function readDevice(folder: string, takes: (entry: Entry) => void): Promise<Read> {
  const { FILES, readConfig } = await import("@tutti/client-sdk/node/folder");
  const { read } = await import("@tutti/client-sdk/node/audit");
  const { name } = await readConfig(folder);
  const file = join(folder, FILES.audit);
  await access(file).catch((cause) => {
    throw new Fault("not-found", file, { expected: "an audit log", got: "none", cause });
  });
  return { of: `device ${name}`, ...read(file, name, takes) };
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
