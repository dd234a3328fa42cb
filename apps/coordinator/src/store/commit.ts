import type { Note } from "@tutti/audit/entry";
import { equalBytes } from "@tutti/foundation/bytes";
import { Fault } from "@tutti/foundation/fault";
import { failpoint } from "../failpoint.ts";
import { addNote } from "./audit.ts";
import type { Engine, Tx } from "./engine.ts";
import { addFiles, addHistory, type StoredFile } from "./kept.ts";
import { mustLead } from "./lease.ts";
import type { StoredRelease, StoredSum } from "./store.ts";
import { putSum } from "./sums.ts";
import { putTook, type Took } from "./took.ts";

/** What one transaction may change of a run; fields that are absent stay as they are. */
export type Change = {
  readonly append?: readonly { readonly seq: number; readonly entry: Uint8Array }[];
  /** Each in the place of what its cohort had. */
  readonly sums?: readonly StoredSum[];
  readonly header?: Uint8Array;
  readonly state?: string;
  readonly release?: StoredRelease;
  /** Records that the header no longer holds, with their place in the run's history. */
  readonly history?: readonly { readonly at: number; readonly record: Uint8Array }[];
  /** Artifacts that the round made. */
  readonly files?: readonly StoredFile[];
  /** Deletes the round's entries and sums; done before `append` and `sums` of the same change. */
  readonly clearJournal?: boolean;
  /** What the audit log says of it. */
  readonly note?: Note;
  /** Who was in the round that closes. */
  readonly took?: Took;
};

/** A database, and the epoch that writes to it. */
export type Leading = {
  readonly engine: Engine;
  readonly epoch: number;
  /** The wall clock, for when a row was added. Default: this machine's. */
  readonly nowMs?: () => number;
};

/** A run in the transaction that changes it. */
export type Place = { readonly tx: Tx; readonly run: string; readonly epoch: number };

export async function commit(
  { engine, epoch, nowMs = Date.now }: Leading,
  run: string,
  change: Change,
): Promise<void> {
  const kind = kindOf(change);
  failpoint(`store.${kind}.before`);
  await engine.db.transaction().execute(async (tx) => {
    await mustLead(engine, tx, { epoch });
    // Changes of one run are one after another; of several, at once where the engine can.
    const there = await tx
      .selectFrom("runs")
      .select("run")
      .where("run", "=", run)
      .$if(engine.locksRows, (query) => query.forNoKeyUpdate())
      .executeTakeFirst();
    if (!there) throw new Fault("not-found", `run ${run.slice(0, 12)}`);
    const place = { tx, run, epoch };
    if (change.clearJournal) await clear(place);
    if (change.append) await mustFollow(place, change.append);
    for (const entries of pieces(change.append ?? [], ({ entry }) => entry.length))
      await append(place, entries);
    for (const sum of change.sums ?? []) await putSum(place, sum);
    if (change.release) await addRelease(place, change.release);
    if (change.took) await putTook(tx, run, change.took);
    for (const records of pieces(change.history ?? [])) await addHistory(place, records);
    for (const files of pieces(change.files ?? [])) await addFiles(place, files);
    await putHeader(place, change);
    if (change.note) await addNote(engine, tx, { note: change.note, wallMs: nowMs() });
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

/** Rows of one statement: each engine bounds a statement's parameters. */
const PIECE = 500;
/** Bytes of one, but for its last row: what takes long to send is given up (sums.ts). */
const PIECE_BYTES = 1 << 20;

function pieces<T>(all: readonly T[], bytesOf: (one: T) => number = () => 0): T[][] {
  const parts: T[][] = [];
  let bytes = Number.POSITIVE_INFINITY;
  for (const one of all) {
    if (bytes >= PIECE_BYTES || parts.at(-1)!.length === PIECE) {
      parts.push([]);
      bytes = 0;
    }
    parts.at(-1)!.push(one);
    bytes += bytesOf(one);
  }
  return parts;
}

async function clear({ tx, run }: Place): Promise<void> {
  await tx.deleteFrom("journal").where("run", "=", run).execute();
  await tx.deleteFrom("sums").where("run", "=", run).execute();
}

/** A round's entries leave no gap: whoever writes behind one has another round in mind than the store. */
async function mustFollow({ tx, run }: Place, entries: readonly Entry[]): Promise<void> {
  const [first = 0, ...rest] = entries.map(({ seq }) => seq);
  const before = await tx
    .selectFrom("journal")
    .select("seq")
    .where("run", "=", run)
    .where("seq", "=", first - 1)
    .executeTakeFirst();
  const gap = first > 0 && !before ? first : rest.find((seq, at) => seq !== first + at + 1);
  if (gap !== undefined)
    throw new Fault("conflict", `journal entry ${gap}`, { expected: "the one before it", got: "a gap" });
}

type Entry = NonNullable<Change["append"]>[number];

async function append({ tx, run, epoch }: Place, entries: readonly Entry[]): Promise<void> {
  const done = await tx
    .insertInto("journal")
    .values(entries.map(({ seq, entry }) => ({ run, seq, entry, epoch })))
    .onConflict((at) => at.doNothing())
    .executeTakeFirst();
  if (done.numInsertedOrUpdatedRows === BigInt(entries.length)) return;
  const seqs = entries.map(({ seq }) => seq);
  const rows = await tx
    .selectFrom("journal")
    .select(["seq", "entry"])
    .where("run", "=", run)
    .where("seq", "in", seqs)
    .execute();
  const held = new Map(rows.map(({ seq, entry }) => [seq, entry]));
  for (const { seq, entry } of entries) {
    if (equalBytes(held.get(seq)!, entry)) continue;
    throw new Fault("conflict", `journal entry ${seq}`, {
      expected: "the bytes that are there",
      got: "others",
    });
  }
}

async function addRelease({ tx, run, epoch }: Place, release: StoredRelease): Promise<void> {
  const { version, digest, envelope } = release;
  const done = await tx
    .insertInto("releases")
    .values({ run, version, digest, envelope, epoch })
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

async function putHeader({ tx, run }: Place, { header, state }: Change): Promise<void> {
  const set = { ...(header ? { header } : {}), ...(state === undefined ? {} : { state }) };
  if (Object.keys(set).length > 0) await tx.updateTable("runs").set(set).where("run", "=", run).execute();
}
