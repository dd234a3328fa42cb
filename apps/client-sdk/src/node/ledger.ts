import { existsSync, readFileSync } from "node:fs";
import type { Ledger } from "@tutti/secagg/device/member";
import { appendSynced } from "./append.ts";

/**
 * Rounds that this device has helped to open, a line each, synced before a share is revealed: after a
 * restart too it helps with no second sum of the same round (docs/attacks.md, attack 10). A torn last
 * line counts as it stands; it names a round whose answer was not yet given.
 */
export function openLedger(file: string): Ledger {
  // Read each time: one process at a time has a device's folder, but two would not open a round twice unseen.
  const lines = () => (existsSync(file) ? readFileSync(file, "utf8").split("\n") : []);
  const append = appendSynced(file);
  const line = (run: string, round: number) => `${run} ${round}`;
  return {
    has: (run, round) => lines().includes(line(run, round)),
    // A new line first, in case the last one was torn.
    add: (run, round) => append(`\n${line(run, round)}`),
  };
}
