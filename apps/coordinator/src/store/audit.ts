import { type Head, hashIn, lineAfter, startOf } from "@tutti/audit/chain";
import type { Note } from "@tutti/audit/entry";
import { removalNote } from "@tutti/audit/removal";
import { Fault } from "@tutti/foundation/fault";
import { failpoint } from "../failpoint.ts";
import type { Leading } from "./commit.ts";
import type { Engine, Tx } from "./engine.ts";
import { mustLead } from "./lease.ts";

/** A coordinator's log is not a device's; replicas of one store write one log. */
export const AUDIT_OWNER = "coordinator";

/**
 * Writes a note in the transaction of the change that it tells of: neither is there without the other.
 * The last thing in a transaction: whoever else writes a note waits for its end.
 */
export async function addNote(engine: Engine, tx: Tx, entry: { note: Note; wallMs: number }): Promise<void> {
  const held = await lockedHead(engine, tx);
  const { line, head } = lineAfter(headOf(held), entry.note, entry.wallMs);
  await tx.insertInto("audit").values({ seq: held.entries, line }).execute();
  await tx.updateTable("audit_head").set({ entries: head.count, hash: head.hash }).execute();
}

/** Entries go by so many, since each removal is an entry too; and so many at most in one transaction. */
const STEP = 100;
const MOST = 200;

/**
 * Removes the oldest entries but for so many of the newest, and notes it; how many, none while there are few
 * to remove. One transaction: an entry is gone and the log says so, or neither.
 */
export async function forgetEntries(
  { engine, epoch, nowMs = Date.now }: Leading,
  kept: number,
): Promise<number> {
  const removed = await engine.db.transaction().execute(async (tx) => {
    await mustLead(engine, tx, { epoch });
    const { entries } = await lockedHead(engine, tx);
    const { seq: from } = await tx
      .selectFrom("audit")
      .select(({ fn }) => fn.min<number | null>("seq").as("seq"))
      .executeTakeFirstOrThrow();
    const beyond = entries - kept - (from ?? entries);
    if (from === null || beyond < STEP) return 0;
    const to = from + Math.min(MOST, beyond);
    const last = await tx
      .selectFrom("audit")
      .select("line")
      .where("seq", "=", to - 1)
      .executeTakeFirst();
    const hash = hashIn(last?.line ?? "");
    if (hash === undefined)
      throw new Fault("storage", `entry ${to - 1} of the audit log`, {
        expected: "a line with its hash",
        got: last ? "another text" : "none",
        todo: "Nothing is removed from a log that is not whole; run `tutti audit verify`",
      });
    const gone = await tx.deleteFrom("audit").where("seq", "<", to).executeTakeFirst();
    // Lines that somebody else removed are not made up for.
    if (gone.numDeletedRows !== BigInt(to - from))
      throw new Fault("storage", "the audit log", {
        expected: `entries ${from} to ${to - 1}`,
        got: `${gone.numDeletedRows} of them`,
        todo: "Nothing is removed from a log that is not whole; run `tutti audit verify`",
      });
    const note = removalNote({ from, to, hash }, entries - to);
    await addNote(engine, tx, { note, wallMs: nowMs() });
    failpoint("keep.entries.inside");
    return to - from;
  });
  if (removed > 0) failpoint("keep.entries.durable");
  return removed;
}

function lockedHead(engine: Engine, tx: Tx) {
  return tx
    .selectFrom("audit_head")
    .select(["entries", "hash"])
    .$if(engine.locksRows, (query) => query.forUpdate())
    .executeTakeFirstOrThrow();
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
