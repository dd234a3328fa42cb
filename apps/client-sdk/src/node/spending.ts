import { existsSync, readFileSync } from "node:fs";
import { fromUtf8 } from "@tutti/foundation/bytes";
import { ANY_RUN, type Entry, formatEntry, parseLedger } from "@tutti/privacy/ledger";
import type { Spending } from "../private.ts";
import { appendSynced } from "./append.ts";
import { readIfThere, replaceFile } from "./atomic.ts";

/** A line is below 300 bytes; so many rounds no device lives to see. */
const MAX_BYTES = 64 << 20;

/**
 * What this device has given away, a line a round, synced before anything is uploaded: after a restart too it
 * stays within its budget. A line that a crash tore counts as spent.
 * @throws Fault("storage") for a file that cannot be read or is damaged: nothing is given away then.
 */
export async function openSpending(file: string): Promise<Spending> {
  const text = await readText(file);
  const entries = parseLedger(text);
  // The next line must be whole: a torn one is written out as what it counts for.
  if (text !== "" && !text.endsWith("\n")) await replaceFile(file, lines(entries));
  const append = appendSynced(file);
  return {
    // Read each time: one process at a time has a device's folder, but two would not share a budget unseen.
    entries: () => (existsSync(file) ? parseLedger(readFileSync(file, "utf8")) : []),
    add: (entry) => append(formatEntry(entry)),
  };
}

/** The same to look at, also while the device runs: nothing is written. @throws Fault("storage") as above. */
export async function readSpending(file: string): Promise<readonly Entry[]> {
  return parseLedger(await readText(file));
}

async function readText(file: string): Promise<string> {
  return fromUtf8((await readIfThere(file, MAX_BYTES)) ?? new Uint8Array(), file);
}

/** A torn line that does not say its run was never added, so nothing was uploaded for it: it is let go. */
function lines(entries: readonly Entry[]): string {
  const told = entries.filter(({ run, rho }) => run !== ANY_RUN && Number.isFinite(rho));
  return told.map(formatEntry).join("");
}
