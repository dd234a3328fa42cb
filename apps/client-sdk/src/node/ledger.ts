import { closeSync, existsSync, fsyncSync, openSync, readFileSync, writeSync } from "node:fs";
import { dirname } from "node:path";
import { Fault } from "@tutti/foundation/fault";
import type { Ledger } from "@tutti/secagg/device/member";

/**
 * Rounds that this device has helped to open, a line each, synced before a share is revealed: after a
 * restart too it helps with no second sum of the same round (docs/attacks.md, attack 10). A torn last
 * line counts as it stands; it names a round whose answer was not yet given.
 */
export function openLedger(file: string): Ledger {
  const lines = existsSync(file) ? readFileSync(file, "utf8").split("\n") : [];
  const opened = new Set(lines);
  /** Whoever made the file may have been killed before its name was synced, so each process syncs it once. */
  let named = false;
  const line = (run: string, round: number) => `${run} ${round}`;
  return {
    has: (run, round) => opened.has(line(run, round)),
    add: (run, round) => {
      try {
        // A new line first, in case the last one was torn.
        synced(file, "a", (handle) => writeSync(handle, `\n${line(run, round)}`));
        // Its name too: a ledger lost with the power is an empty one.
        if (!named) synced(dirname(file), "r");
        named = true;
      } catch (cause) {
        throw new Fault("storage", file, { expected: "to be written", got: `${cause}`, cause });
      }
      opened.add(line(run, round));
    },
  };
}

function synced(path: string, flags: "a" | "r", write: (handle: number) => void = () => {}): void {
  const handle = openSync(path, flags);
  try {
    write(handle);
    fsyncSync(handle);
  } finally {
    closeSync(handle);
  }
}
