import { Fault } from "@tutti/foundation/fault";
import { sql } from "kysely";
import { addNote } from "./audit.ts";
import type { Engine, Tx } from "./engine.ts";
import { insertOf, lineOf, type Row, rowOf, type Value } from "./rows.ts";
import { TABLES } from "./schema.ts";
import type { Source } from "./source.ts";

export type Table = keyof typeof TABLES;
export const TABLE_NAMES = Object.keys(TABLES) as readonly Table[];

/** Rows of a statement: some hold a vector. */
const PAGE = 20;

/** One moment of a database, from which tables are read as lines. */
export type Snapshot = {
  readonly epoch: number;
  readonly migrations: number;
  /** Runs that go on from here. */
  running(): Promise<{ name: string; plan: Uint8Array; header: Uint8Array }[]>;
  lines(table: Table): AsyncIterable<string>;
};

/**
 * Reads a database as it is at one moment, whatever is written to it meanwhile: one transaction, of
 * repeatable reads, which is what a transaction of SQLite in WAL mode is anyway.
 */
export async function snapshot<T>(source: Source, body: (snapshot: Snapshot) => Promise<T>): Promise<T> {
  const transaction = source.db.transaction();
  const reading =
    source.name === "postgres"
      ? transaction.setIsolationLevel("repeatable read").setAccessMode("read only")
      : transaction;
  try {
    return await reading.execute(async (tx) => {
      const { epoch } = await tx.selectFrom("lease").select("epoch").executeTakeFirstOrThrow();
      const { rows } = await sql<{ count: number }>`select count(*) as count from migrations`.execute(tx);
      return await body({
        epoch,
        migrations: Number(rows[0]?.count),
        running: () =>
          tx.selectFrom("runs").select(["name", "plan", "header"]).where("state", "=", "running").execute(),
        lines: (table) => linesOf(tx, table),
      });
    });
  } catch (cause) {
    throw source.faultOf(cause, "reading the database");
  }
}

async function* linesOf(tx: Tx, table: Table): AsyncGenerator<string> {
  const names = TABLES[table] as readonly string[];
  const key = sql.join(names.map((name) => sql.ref(name)));
  let after: Value[] | null = null;
  for (;;) {
    const where: ReturnType<typeof sql> = after === null ? sql`` : sql`where (${key}) > (${sql.join(after)})`;
    const page: { rows: Row[] } = await sql<Row>`
      select * from ${sql.table(table)} ${where} order by ${key} limit ${sql.lit(PAGE)}`.execute(tx);
    for (const row of page.rows) yield lineOf(row);
    const last = page.rows.at(-1);
    if (page.rows.length < PAGE || last === undefined) return;
    after = names.map((name) => last[name] ?? null);
  }
}

export type Load = {
  readonly lines: (table: Table) => AsyncIterable<string>;
  /** Of the backup. */
  readonly epoch: number;
  /** What it is restored from, for the audit log. */
  readonly manifest: string;
  readonly wallMs: number;
  /** Done when all else is, before anybody sees it: where it fails the database stays empty. */
  readonly last?: () => Promise<void>;
};

/** So many leaders may have come after a backup was taken, at most. */
const LEADERS = 2 ** 20;

/**
 * An epoch that nobody had: above all that may have followed the backup's, and above that of every restore of
 * the same backup before this one.
 */
export function epochAfter(epoch: number, wallMs: number): number {
  return Math.max(epoch + LEADERS, Math.floor(wallMs));
}

/**
 * Fills an empty database: all of it or nothing. A coordinator that still leads under an older epoch can
 * write nothing into it. @throws Fault("conflict") where there is something already.
 */
export async function load(engine: Engine, { lines, epoch, manifest, wallMs, last }: Load): Promise<number> {
  const next = epochAfter(epoch, wallMs);
  await engine.db
    .transaction()
    .execute(async (tx) => {
      await mustBeEmpty(tx);
      // What a migration put there is in the backup too.
      for (const table of [...TABLE_NAMES].reverse()) await sql`delete from ${sql.table(table)}`.execute(tx);
      for (const table of TABLE_NAMES) {
        let at = 0;
        for await (const line of lines(table)) {
          at++;
          await insertOf(table, rowOf(line, `store/${table}.jsonl, line ${at}`)).execute(tx);
        }
      }
      const holder = "restore";
      await tx.updateTable("lease").set({ epoch: next, holder, address: "", until_ms: 0 }).execute();
      await tx
        .insertInto("epochs")
        .values({ epoch: next, holder, address: "", since_ms: engine.nowMs })
        .execute();
      const note = { actor: "operator", what: "store.restored", subject: manifest, detail: { epoch: next } };
      await addNote(engine, tx, { note, wallMs });
      await last?.();
    })
    .catch((cause: unknown) => {
      throw engine.faultOf(cause, "filling the database");
    });
  return next;
}

async function mustBeEmpty(tx: Tx): Promise<void> {
  const { epoch } = await tx.selectFrom("lease").select("epoch").executeTakeFirstOrThrow();
  const runs = await tx.selectFrom("runs").select("run").limit(1).execute();
  const devices = await tx.selectFrom("devices").select("name").limit(1).execute();
  if (epoch === 0 && runs.length === 0 && devices.length === 0) return;
  throw new Fault("conflict", "database", {
    expected: "an empty one",
    got: `one that coordinators used, at epoch ${epoch}`,
    todo: "Name a new database; this one is left as it is",
  });
}
