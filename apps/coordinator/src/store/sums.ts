import { concat } from "@tutti/foundation/bytes";
import { Fault } from "@tutti/foundation/fault";
import type { Place } from "./commit.ts";
import type { Tx } from "./engine.ts";
import type { StoredSum } from "./store.ts";

/**
 * Bytes of a running sum in one row. A sum may be hundreds of megabytes. As one parameter it is copied whole
 * before its first byte is sent, to the server a transaction that stands still, which it ends; then all of it
 * must arrive within one statement's time. As one result it is twice as long a text, maybe longer than any
 * may be. A piece is as long as the longest entry of a journal.
 */
const PIECE_BYTES = 2 << 20;

/** In the place of what the cohort had. */
export async function putSum({ tx, run }: Pick<Place, "tx" | "run">, sum: StoredSum): Promise<void> {
  const { cohort, words: whole } = sum;
  const count = Math.max(1, Math.ceil(whole.length / PIECE_BYTES));
  for (let at = 0; at < count; at++) {
    const words = whole.subarray(at * PIECE_BYTES, (at + 1) * PIECE_BYTES);
    await tx
      .insertInto("sums")
      .values({ run, cohort, at, words })
      // By name: as a value of its own it would be sent twice.
      .onConflict((conflict) =>
        conflict
          .columns(["run", "cohort", "at"])
          .doUpdateSet(({ ref }) => ({ words: ref("excluded.words") })),
      )
      .execute();
  }
  // Pieces of a longer one before it.
  await tx
    .deleteFrom("sums")
    .where("run", "=", run)
    .where("cohort", "=", cohort)
    .where("at", ">=", count)
    .execute();
}

/** Of every cohort, in the order of their numbers. */
export async function sumsOf(tx: Tx, run: string): Promise<StoredSum[]> {
  const rows = await tx
    .selectFrom("sums")
    .select(["cohort", "at"])
    .where("run", "=", run)
    .orderBy("cohort")
    .orderBy("at")
    .execute();
  const pieces = new Map<number, Uint8Array[]>();
  for (const { cohort, at } of rows) {
    const own = pieces.get(cohort) ?? [];
    pieces.set(cohort, own);
    if (at !== own.length)
      throw new Fault("storage", `the sum of cohort ${cohort}`, {
        expected: `piece ${own.length}`,
        got: `piece ${at}`,
      });
    own.push(await pieceOf(tx, { run, cohort, at }));
  }
  return [...pieces].map(([cohort, all]) => ({ cohort, words: concat(...all) }));
}

async function pieceOf(tx: Tx, { run, cohort, at }: { run: string; cohort: number; at: number }) {
  const { words } = await tx
    .selectFrom("sums")
    .select("words")
    .where("run", "=", run)
    .where("cohort", "=", cohort)
    .where("at", "=", at)
    .executeTakeFirstOrThrow();
  return words;
}
