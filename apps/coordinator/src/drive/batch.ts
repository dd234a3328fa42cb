import { asFault, Fault } from "@tutti/foundation/fault";
import { type Effect, type Round, step } from "@tutti/round/round";
import type { JournalEntry } from "@tutti/wire/journal";
import { checkUpload, entryOf, type Sums, type Waiting, withVector } from "./waiting.ts";

/** What one transaction is about: the round after its entries, and what to write and to perform. */
export type Batch = {
  readonly round: Round | null;
  /** Answered once it is durable; the others are refused already. */
  readonly accepted: readonly Waiting[];
  readonly entries: readonly JournalEntry[];
  readonly effects: readonly Effect[];
  /** The running sums that it changes. */
  readonly changed: Sums;
};

/** What is committed, when the batch is taken, and why nothing is taken where there is no round. */
export type Committed = {
  readonly round: Round | null;
  readonly sums: Sums;
  readonly nowMs: number;
  readonly runState: string;
};

/** Takes what waits, in order. Whoever is refused hears it at once; `onBug` is told of what is no Fault. */
export function takeBatch(
  waiting: readonly Waiting[],
  { round: before, sums, nowMs, runState }: Committed,
  onBug: (error: unknown, item: Waiting) => void,
): Batch {
  let round = before;
  let changed: Sums = new Map();
  const accepted: Waiting[] = [];
  const entries: JournalEntry[] = [];
  const effects: Effect[] = [];
  for (const item of waiting) {
    try {
      if (round === null) throw new Fault("conflict", "run", { expected: "running", got: runState });
      checkUpload(round, item);
      const entry = entryOf(item, round, nowMs);
      const [next, more] = step(round, entry);
      // Before the entry that says so: memory may not suffice for the vector, and then nothing is in the sum.
      const added = withVector(more, item, { changed, before: sums });
      accepted.push(item);
      if (next === round) continue;
      round = next;
      entries.push(entry);
      changed = added;
      effects.push(...more);
    } catch (fault) {
      if (!(fault instanceof Fault)) onBug(fault, item);
      item.settle.reject(asFault(fault));
    }
  }
  return { round, accepted, entries, effects, changed };
}
