import { equalBytes } from "@tutti/foundation/bytes";
import { assert, demand } from "@tutti/foundation/check";
import { Fault } from "@tutti/foundation/fault";
import { addInto } from "@tutti/kernels/ring";
import { cohortOf, type Effect, type Round } from "@tutti/round/round";
import { sessionId } from "@tutti/round/summing";
import { type JournalEntry, JournalEntrySchema } from "@tutti/wire/journal";
import { create } from "@tutti/wire/message";

/** A masked vector, unpacked, and the session that its sender masked it for. */
export type Upload = { readonly vector: Uint32Array; readonly session: Uint8Array };

/** An event on its way into the journal, and whoever waits for its acknowledgement. */
export type Waiting = {
  readonly device: string;
  readonly event: JournalEntry["event"];
  readonly upload: Upload | undefined;
  readonly settle: { resolve(): void; reject(reason: unknown): void };
};

/** As the journal holds it. A round's first entry also fixes the moment that its certificates count at. */
export function entryOf({ device, event }: Waiting, { trust }: Round, nowMs: number): JournalEntry {
  const checkedAtS = event.case === "recovered" ? trust.nowS : 0;
  return create(JournalEntrySchema, { nowMs, device, event, checkedAtS });
}

/** The running sums of a round by the number of their cohort; a cohort without a vector has none. */
export type Sums = ReadonlyMap<number, Uint32Array>;

/**
 * An upload may be under way for longer than its round; its entry does not say which session it is for.
 * @throws Fault("conflict") when it is for another one than its sender's in the round.
 */
export function checkUpload(round: Round, { device, event, upload }: Waiting): void {
  if (event.case !== "uploaded") return;
  assert(upload !== undefined, "an upload has its vector");
  const at = cohortOf(round, device);
  const now = at === null ? null : sessionId(round.cohorts[at]!.sum);
  demand(
    now && equalBytes(upload.session, now),
    () => new Fault("conflict", "upload", { expected: "the session in progress", got: "another" }),
  );
}

/**
 * The running sums that a transaction changes, with the vector that the machine just accepted; `before` are
 * the committed ones, of which one is copied before it is added to, since a commit may fail.
 */
export function withVector(
  effects: readonly Effect[],
  { upload }: Waiting,
  { changed, before }: { changed: Sums; before: Sums },
): Sums {
  const [added] = effects.filter((effect) => effect.kind === "add-vector");
  if (!added) return changed;
  assert(upload !== undefined, "an accepted upload has its vector");
  const { cohort } = added;
  const sum = changed.get(cohort) ?? before.get(cohort)?.slice() ?? new Uint32Array(upload.vector.length);
  addInto(sum, upload.vector);
  return new Map([...changed, [cohort, sum]]);
}

/** What a sender hears when storage failed: not "no", since the entry may be on disk. */
export function unconfirmed(cause: unknown): Fault {
  return new Fault("unavailable", "storage", { cause, todo: "Send it again" });
}
