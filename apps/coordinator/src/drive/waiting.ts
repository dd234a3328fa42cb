import { equalBytes } from "@tutti/foundation/bytes";
import { assert, demand } from "@tutti/foundation/check";
import { Fault } from "@tutti/foundation/fault";
import { addInto } from "@tutti/kernels/ring";
import type { Effect, Round } from "@tutti/round/round";
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

/**
 * An upload may be under way for longer than its round; its entry does not say which session it is for.
 * @throws Fault("conflict") when it is for another one than the round's.
 */
export function checkUpload({ sum }: Round, { event, upload }: Waiting): void {
  if (event.case !== "uploaded") return;
  assert(upload !== undefined, "an upload has its vector");
  const now = sum === null ? null : sessionId(sum);
  demand(
    now && equalBytes(upload.session, now),
    () => new Fault("conflict", "upload", { expected: "the session in progress", got: "another" }),
  );
}

/**
 * The running sum of a transaction with the vector that the machine just accepted; `before` is the committed
 * one, which is copied first, since a commit may fail.
 */
export function withVector(
  effects: readonly Effect[],
  { upload }: Waiting,
  { sum, before }: { sum: Uint32Array | undefined; before: Uint32Array | null },
): Uint32Array | undefined {
  if (!effects.some((effect) => effect.kind === "add-vector")) return sum;
  assert(upload !== undefined, "an accepted upload has its vector");
  const next = sum ?? before?.slice() ?? new Uint32Array(upload.vector.length);
  addInto(next, upload.vector);
  return next;
}

/** What a sender hears when storage failed: not "no", since the entry may be on disk. */
export function unconfirmed(cause: unknown): Fault {
  return new Fault("unavailable", "storage", { cause, todo: "Send it again" });
}
