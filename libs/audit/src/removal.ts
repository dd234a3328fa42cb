import { Fault } from "@tutti/foundation/fault";
import type { Entry, Note } from "./entry.ts";

/**
 * Old entries may be removed: whole beginnings of a chain, and never without an entry that says so. What is
 * left begins with a line that names the hash before it, and has to have an entry that names the same.
 */
export const REMOVED = "audit.removed";

export type Removal = {
  /** The first entry that went, and the first that stayed. */
  readonly from: number;
  readonly to: number;
  /** Of the last one that went. */
  readonly hash: string;
};

export function removalNote({ from, to, hash }: Removal, stay: number): Note {
  return { actor: "coordinator", what: REMOVED, subject: hash, detail: { from, to, stay } };
}

/** What an entry says was removed. @throws Fault("refused") for one that cannot be. */
export function removalOf({ what, subject, detail, seq }: Entry): Removal | undefined {
  if (what !== REMOVED) return undefined;
  const [from, to] = [Number(detail.from), Number(detail.to)];
  if (Number.isInteger(from) && Number.isInteger(to) && from >= 0 && from < to && to <= seq)
    return { from, to, hash: subject };
  throw new Fault("refused", `audit log, line ${seq + 1}`, {
    expected: "a removal of entries before it",
    got: `from ${detail.from} to ${detail.to}`,
  });
}
