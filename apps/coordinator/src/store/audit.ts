import { type Head, lineAfter, startOf } from "@tutti/audit/chain";
import type { Note } from "@tutti/audit/entry";
import type { Engine, Tx } from "./engine.ts";

/** A coordinator's log is not a device's; replicas of one store write one log. */
export const AUDIT_OWNER = "coordinator";

/**
 * Writes a note in the transaction of the change that it tells of: neither is there without the other.
 * The last thing in a transaction: whoever else writes a note waits for its end.
 */
export async function addNote(engine: Engine, tx: Tx, entry: { note: Note; wallMs: number }): Promise<void> {
  const held = await tx
    .selectFrom("audit_head")
    .select(["entries", "hash"])
    .$if(engine.locksRows, (query) => query.forUpdate())
    .executeTakeFirstOrThrow();
  const { line, head } = lineAfter(headOf(held), entry.note, entry.wallMs);
  await tx.insertInto("audit").values({ seq: held.entries, line }).execute();
  await tx.updateTable("audit_head").set({ entries: head.count, hash: head.hash }).execute();
}

/** So many entries, and the last one's hash. */
export async function auditHead({ db }: Pick<Engine, "db">): Promise<Head> {
  return headOf(await db.selectFrom("audit_head").select(["entries", "hash"]).executeTakeFirstOrThrow());
}

/** Lines from a number on, at most so many. */
export async function auditLines(
  { db }: Pick<Engine, "db">,
  { from, most }: { readonly from: number; readonly most: number },
): Promise<string[]> {
  const lines = db.selectFrom("audit").select("line").where("seq", ">=", from).orderBy("seq").limit(most);
  return (await lines.execute()).map(({ line }) => line);
}

function headOf({ entries, hash }: { entries: number; hash: string }): Head {
  return entries === 0 ? startOf(AUDIT_OWNER) : { count: entries, hash };
}
