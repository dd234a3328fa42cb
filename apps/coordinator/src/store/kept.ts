import { failpoint } from "../failpoint.ts";
import type { Change, Leading, Place } from "./commit.ts";
import type { Tx } from "./engine.ts";
import { mustLead } from "./lease.ts";

/** An artifact of a run: its hash, what it is, and the round that began when it was last put. */
export type StoredFile = {
  readonly sha256: string;
  /** A release's adapter; or what a third party checks a round with: states, sums, transcripts. */
  readonly kind: "adapter" | "evidence";
  readonly round: number;
};

/** Of a run: the newest rounds of which its files stay, by kind. */
export type Kept = Readonly<Partial<Record<StoredFile["kind"], number>>>;

/** As many as are removed after one round at most: a rule that was just set has years of them. */
const MOST = 100;

export async function addHistory({ tx, run }: Place, records: NonNullable<Change["history"]>): Promise<void> {
  await tx
    .insertInto("history")
    .values(records.map(({ at, record }) => ({ run, at, record })))
    .onConflict((conflict) => conflict.doNothing())
    .execute();
}

/** One that is made again counts from then. */
export async function addFiles({ tx, run }: Place, files: readonly StoredFile[]): Promise<void> {
  await tx
    .insertInto("files")
    .values(files.map((file) => ({ ...file, run })))
    .onConflict((at) =>
      at.columns(["run", "sha256"]).doUpdateSet(({ ref }) => ({
        kind: ref("excluded.kind"),
        round: ref("excluded.round"),
      })),
    )
    .execute();
}

/** Some of a run's files that are of older rounds than it keeps, oldest first. */
export async function filesBeyond(
  { engine }: Leading,
  run: string,
  { round, kept }: { round: number; kept: Kept },
): Promise<string[]> {
  const bounds = Object.entries(kept) as [StoredFile["kind"], number][];
  if (bounds.length === 0) return [];
  const rows = await engine.db
    .selectFrom("files")
    .select("sha256")
    .where("run", "=", run)
    .where(({ or, and, eb }) =>
      or(bounds.map(([kind, rounds]) => and([eb("kind", "=", kind), eb("round", "<=", round - rounds)]))),
    )
    .orderBy("round")
    .limit(MOST)
    .execute();
  return rows.map(({ sha256 }) => sha256);
}

/**
 * Has a file removed, unless another run has it too. Where others can take the lease, none can until that is
 * done, or its transaction is ended for standing still: no leader after this one finds the file there and
 * loses it then. SQLite's file is this process's alone, and its one connection is not kept waiting.
 */
export async function removeFile(
  { engine, epoch }: Leading,
  run: string,
  { sha256, remove }: FileRemoval,
): Promise<void> {
  const isOurs = await engine.db.transaction().execute(async (tx) => {
    await mustLead(engine, tx, { epoch });
    if (await isFileOfAnother(tx, run, sha256)) return false;
    if (engine.locksRows) await remove();
    return true;
  });
  if (isOurs && !engine.locksRows) await remove();
}

/** `remove` takes less long than a transaction may stand still, or leaves the rest to go on by itself. */
export type FileRemoval = { readonly sha256: string; readonly remove: () => Promise<void> };

async function isFileOfAnother(tx: Tx, run: string, sha256: string): Promise<boolean> {
  const row = await tx
    .selectFrom("files")
    .select("run")
    .where("sha256", "=", sha256)
    .where("run", "!=", run)
    .limit(1)
    .executeTakeFirst();
  return row !== undefined;
}

/** Forgets a file that is removed already. */
export async function forgetFile({ engine, epoch }: Leading, run: string, sha256: string): Promise<void> {
  await engine.db.transaction().execute(async (tx) => {
    await mustLead(engine, tx, { epoch });
    await tx.deleteFrom("files").where("run", "=", run).where("sha256", "=", sha256).execute();
  });
}

/** What stays of a run's rows. */
export type KeptRows = {
  /** Records of its history from this place on; absent: all. */
  readonly records?: number;
  /** So many of its newest manifests, at least one; absent: all. */
  readonly releases?: number;
};

/**
 * Removes older rows, oldest first and at most so many of a kind, so that the transaction takes about a
 * millisecond; how many it removed. The newest manifest always stays: the run goes on from it.
 */
export async function forgetRows(
  { engine, epoch }: Leading,
  run: string,
  { records, releases }: KeptRows,
): Promise<number> {
  const removed = await engine.db.transaction().execute(async (tx) => {
    await mustLead(engine, tx, { epoch });
    const gone =
      (records === undefined ? 0 : await forgetRecords(tx, run, records)) +
      (releases === undefined ? 0 : await forgetReleases(tx, run, Math.max(1, releases)));
    if (gone > 0) failpoint("keep.rows.inside");
    return gone;
  });
  if (removed > 0) failpoint("keep.rows.durable");
  return removed;
}

async function forgetRecords(tx: Tx, run: string, before: number): Promise<number> {
  const old = await tx
    .selectFrom("history")
    .select("at")
    .where("run", "=", run)
    .where("at", "<", before)
    .orderBy("at")
    .limit(MOST)
    .execute();
  const last = old.at(-1);
  if (last) await tx.deleteFrom("history").where("run", "=", run).where("at", "<=", last.at).execute();
  return old.length;
}

async function forgetReleases(tx: Tx, run: string, kept: number): Promise<number> {
  const newest = await tx
    .selectFrom("releases")
    .select(({ fn }) => fn.max<number | null>("version").as("version"))
    .where("run", "=", run)
    .executeTakeFirst();
  const old = await tx
    .selectFrom("releases")
    .select("version")
    .where("run", "=", run)
    .where("version", "<=", (newest?.version ?? 0) - kept)
    .orderBy("version")
    .limit(MOST)
    .execute();
  const last = old.at(-1)?.version;
  if (last !== undefined)
    await tx.deleteFrom("releases").where("run", "=", run).where("version", "<=", last).execute();
  return old.length;
}

/** A record with its place in the run's history. */
export type StoredRecord = { readonly at: number; readonly record: Uint8Array };

/** Records of a run's history that its header no longer holds, from one place on. */
export async function historyOf(
  { engine }: Leading,
  run: string,
  { from, most }: { from: number; most: number },
): Promise<StoredRecord[]> {
  return await engine.db
    .selectFrom("history")
    .select(["at", "record"])
    .where("run", "=", run)
    .where("at", ">=", from)
    .orderBy("at")
    .limit(most)
    .execute();
}
