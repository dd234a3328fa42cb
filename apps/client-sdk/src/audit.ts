import type { Note } from "@tutti/audit/entry";
import { hex } from "@tutti/foundation/bytes";
import { asFault } from "@tutti/foundation/fault";
import { taskHash } from "@tutti/round/spec";
import type { Accepted } from "./check.ts";

/** Where a device writes down what it was asked, used and let out; durable before it returns. */
export type Audit = { note(note: Note): void };

/** A platform without a place to keep a log has none. */
export const NO_AUDIT: Audit = { note: () => {} };

/** What this device was asked and agreed to. */
export function acceptance({ task, plan, attempt }: Accepted): Note {
  const { run, round } = task;
  const detail = { run, round, attempt, plan: plan.name, base: plan.base.sha256 };
  return { actor: "coordinator", what: "task.accepted", subject: hex(taskHash(task)), detail };
}

/** A coordinator that says nonsense for days must not fill the site's disk with refusals. */
const MAX_REFUSALS = 1_000;

/**
 * The log, with what was refused: a repeat of the entry before is left out, and so is what is beyond a bound.
 */
export function withRefusals({ note }: Audit): Audit & { readonly refused: (error: unknown) => void } {
  let last = "";
  let count = 0;
  const noted = (entry: Note) => {
    last = "";
    note(entry);
  };
  const refused = (error: unknown) => {
    const { code, what } = asFault(error);
    const said = `${code} ${what}`;
    if (said === last || count > MAX_REFUSALS) return;
    last = said;
    count += 1;
    const rest = count > MAX_REFUSALS ? { more: "are not written down until this process ends" } : {};
    try {
      note({ actor: "device", what: "refused", subject: what, detail: { code, ...rest } });
    } catch {
      // A full disk: what is refused leaves nothing, so nothing is owed to the log.
    }
  };
  return { note: noted, refused };
}
