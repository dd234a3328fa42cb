import { Fault } from "@tutti/foundation/fault";
import { nearest } from "@tutti/foundation/nearest";

/** Kinds of entries, as docs/operating.md tells them; a test holds both to what is written. */
export const KINDS = {
  coordinator: [
    "epoch.began",
    "device.enrolled",
    "device.renewed",
    "device.revoked",
    "artifact.put",
    "run.started",
    "release.published",
    "round.failed",
    "run.finished",
    "run.failed",
    "run.stopped",
    "run.resumed",
    "store.restored",
    "audit.removed",
  ],
  device: [
    "task.accepted",
    "data.used",
    "shares.leave",
    "update.leaves",
    "release.activated",
    "release.rolled-back",
    "refused",
    "head.told",
    "log.repaired",
    "log.continued",
  ],
} as const;

/** Whether an entry's kind is the one that was asked for, or begins so. */
export function isKind(kind: string, asked: string): boolean {
  return kind === asked || kind.startsWith(`${asked}.`);
}

/**
 * @throws Fault("bad-input") for a kind that no log of this side has, this one included: another version may
 * have written what we do not know.
 */
export function mustBeKind(asked: string, whose: keyof typeof KINDS, there: ReadonlySet<string>): void {
  const known = [...new Set([...KINDS[whose], ...there])];
  if (known.some((kind) => isKind(kind, asked))) return;
  const meant = nearest(asked, known);
  throw new Fault("bad-input", "--what", {
    expected: `one of ${known.join(", ")}, or how some of them begin`,
    got: JSON.stringify(asked.slice(0, 40)),
    ...(meant && { todo: `Did you mean ${meant}?` }),
  });
}
