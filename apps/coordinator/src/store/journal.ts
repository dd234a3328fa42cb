import { Fault } from "@tutti/foundation/fault";
import type { Leading } from "./commit.ts";
import type { Engine, Tx } from "./engine.ts";
import { mustLead } from "./lease.ts";
import type { Journal } from "./store.ts";
import { sumsOf } from "./sums.ts";

/** Entries of one answer. */
const PAGE_ENTRIES = 50;

/**
 * A run's entries and sums as they are at one moment, so that they belong together; after every commit that
 * is still under way, though whoever asked for it was told nothing.
 */
export async function journalOf(leading: Leading, run: string): Promise<Journal> {
  const { engine, epoch } = leading;
  if (engine.locksRows) await outwait(engine, run);
  const transaction = engine.db.transaction();
  const reading = engine.locksRows
    ? transaction.setIsolationLevel("repeatable read").setAccessMode("read only")
    : transaction;
  return await reading.execute(async (tx) => {
    // Of the moment that is read: whoever led then wrote all of it, and it was this epoch.
    await mustLead(engine, tx, { epoch, look: true });
    return { entries: await entriesOf(tx, run), sums: await sumsOf(tx, run) };
  });
}

/**
 * Returns when no commit of the run is under way whose answer may have been lost. Of those only one that was
 * told "commit" can still happen: a transaction without its last word is rolled back with its connection,
 * which is never used again. One that was told holds the run's row, as every commit does from its beginning
 * until it ends; and of other epochs' none is left, since taking the lease waited for them. The row is let go
 * at once: nothing waits for the reading, which may take long.
 */
async function outwait({ db }: Engine, run: string): Promise<void> {
  await db.selectFrom("runs").select("run").where("run", "=", run).forNoKeyUpdate().execute();
}

async function entriesOf(tx: Tx, run: string): Promise<Uint8Array[]> {
  const entries: Uint8Array[] = [];
  for (;;) {
    const rows = await tx
      .selectFrom("journal")
      .select(["seq", "entry"])
      .where("run", "=", run)
      .where("seq", ">=", entries.length)
      .orderBy("seq")
      .limit(PAGE_ENTRIES)
      .execute();
    for (const { seq, entry } of rows) {
      if (seq !== entries.length)
        throw new Fault("storage", "journal", {
          expected: `entry ${entries.length}`,
          got: `entry ${seq}`,
        });
      entries.push(entry);
    }
    if (rows.length < PAGE_ENTRIES) return entries;
  }
}
