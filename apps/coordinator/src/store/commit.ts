import { equalBytes } from "@tutti/foundation/bytes";
import { Fault } from "@tutti/foundation/fault";
import type { Kysely, Transaction } from "kysely";
import { failpoint } from "../failpoint.ts";
import type { Schema } from "./schema.ts";
import type { Journal, StoredRelease, StoredSum } from "./store.ts";

/** What one transaction may change of a run; fields that are absent stay as they are. */
export type Change = {
  readonly append?: readonly { readonly seq: number; readonly entry: Uint8Array }[];
  /** Each in the place of what its cohort had. */
  readonly sums?: readonly StoredSum[];
  readonly header?: Uint8Array;
  readonly state?: string;
  readonly release?: StoredRelease;
  /** Deletes the round's entries and sums; done before `append` and `sums` of the same change. */
  readonly clearJournal?: boolean;
};

type Tx = Transaction<Schema>;

export async function commit(db: Kysely<Schema>, run: string, change: Change): Promise<void> {
  const kind = kindOf(change);
  failpoint(`store.${kind}.before`);
  await db.transaction().execute(async (tx) => {
    const there = await tx.selectFrom("runs").select("run").where("run", "=", run).executeTakeFirst();
    if (!there) throw new Fault("not-found", `run ${run.slice(0, 12)}`);
    if (change.clearJournal) await clear(tx, run);
    for (const { seq, entry } of change.append ?? []) await append(tx, run, { seq, entry });
    for (const sum of change.sums ?? []) await putSum(tx, run, sum);
    if (change.release) await addRelease(tx, run, change.release);
    await putHeader(tx, run, change);
    failpoint(`store.${kind}.inside`);
  });
  failpoint(`store.${kind}.durable`);
}

type Kind = "append" | "sum" | "close" | "release" | "running";

/** What a change is called where a test may interrupt it. */
function kindOf({ append, sums, release, clearJournal }: Change): Kind {
  if (clearJournal) return release ? "release" : "close";
  if (append) return sums && sums.length > 0 ? "sum" : "append";
  return "running";
}

/** Reads entries and sums in one transaction, so that they belong together. */
export function journalOf(db: Kysely<Schema>, run: string): Promise<Journal> {
  return db.transaction().execute(async (tx) => {
    const rows = await tx
      .selectFrom("journal")
      .select(["seq", "entry"])
      .where("run", "=", run)
      .orderBy("seq")
      .execute();
    const sums = await tx
      .selectFrom("sums")
      .select(["cohort", "words"])
      .where("run", "=", run)
      .orderBy("cohort")
      .execute();
    const gap = rows.findIndex(({ seq }, at) => seq !== at);
    if (gap >= 0)
      throw new Fault("storage", "journal", { expected: `entry ${gap}`, got: `entry ${rows[gap]?.seq}` });
    return { entries: rows.map(({ entry }) => entry), sums };
  });
}

async function clear(tx: Tx, run: string): Promise<void> {
  await tx.deleteFrom("journal").where("run", "=", run).execute();
  await tx.deleteFrom("sums").where("run", "=", run).execute();
}

async function append(
  tx: Tx,
  run: string,
  { seq, entry }: { seq: number; entry: Uint8Array },
): Promise<void> {
  const done = await tx
    .insertInto("journal")
    .values({ run, seq, entry })
    .onConflict((at) => at.doNothing())
    .executeTakeFirst();
  if (done.numInsertedOrUpdatedRows !== 0n) return;
  const held = await tx
    .selectFrom("journal")
    .select("entry")
    .where("run", "=", run)
    .where("seq", "=", seq)
    .executeTakeFirstOrThrow();
  if (!equalBytes(held.entry, entry))
    throw new Fault("conflict", `journal entry ${seq}`, {
      expected: "the bytes that are there",
      got: "others",
    });
}

async function putSum(tx: Tx, run: string, { cohort, words }: StoredSum): Promise<void> {
  await tx
    .insertInto("sums")
    .values({ run, cohort, words })
    .onConflict((at) => at.columns(["run", "cohort"]).doUpdateSet({ words }))
    .execute();
}

async function addRelease(tx: Tx, run: string, release: StoredRelease): Promise<void> {
  const { version, digest, envelope } = release;
  const done = await tx
    .insertInto("releases")
    .values({ run, version, digest, envelope })
    .onConflict((at) => at.doNothing())
    .executeTakeFirst();
  if (done.numInsertedOrUpdatedRows !== 0n) return;
  const held = await tx
    .selectFrom("releases")
    .select(["digest", "envelope"])
    .where("run", "=", run)
    .where("version", "=", version)
    .executeTakeFirstOrThrow();
  if (held.digest !== digest || !equalBytes(held.envelope, envelope))
    throw new Fault("conflict", `release ${version}`, { expected: held.digest, got: digest });
}

async function putHeader(tx: Tx, run: string, { header, state }: Change): Promise<void> {
  const set = { ...(header ? { header } : {}), ...(state === undefined ? {} : { state }) };
  if (Object.keys(set).length > 0) await tx.updateTable("runs").set(set).where("run", "=", run).execute();
}
