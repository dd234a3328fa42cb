import { join } from "node:path";
import { Checker, type Head } from "@tutti/audit/chain";
import type { Entry } from "@tutti/audit/entry";
import { Fault } from "@tutti/foundation/fault";
import { Kysely, PostgresDialect, SqliteDialect, sql } from "kysely";
import type { Config } from "../folder/config.ts";
import { PATHS } from "../folder/layout.ts";
import { AUDIT_OWNER, auditHead, auditLines } from "./audit.ts";
import { postgresUrl } from "./database.ts";
import { FOLDERS, readMigrations } from "./migrate.ts";
import { faultOf, openPool } from "./pool.ts";
import type { Schema } from "./schema.ts";
import { openSqliteDriver } from "./sqlite-driver.ts";
import { mustBeThere, sqliteFault } from "./sqlite-file.ts";

/** A federation's store, opened beside its coordinator or without one; nothing in it is changed. */
export type Reader = {
  readonly engine: "sqlite" | "postgres";
  /** How many migrations it has seen, 0 where it is empty, and how many this version knows. */
  migrations(): Promise<{ readonly applied: number; readonly known: number }>;
  /** Who leads; an epoch of 0: nobody ever did. */
  lease(): Promise<{ readonly epoch: number; readonly holder: string; readonly address: string }>;
  /** Settings without which an acknowledged commit may be lost, and what they are. */
  durable(): Promise<Readonly<Record<string, { readonly got: string; readonly ok: boolean }>>>;
  /** Reads the whole audit log. @throws Fault("refused") naming the first thing wrong. */
  audit(remembered: readonly Head[], reading?: AuditReading): Promise<AuditRead>;
  close(): Promise<void>;
};

export type AuditReading = {
  readonly takes?: (entry: Entry, line: string) => void;
  /** Lines of older parts that were exported; those that the store has too are passed over. */
  readonly older?: AsyncIterable<string>;
};

/** The head; where the log begins, what the last removal was, and remembered heads of before that. */
export type AuditRead = Head & Pick<Checker, "begins" | "removed" | "unreachable">;

const LIMITS = { connectMs: 3_000, statementMs: 10_000, lockMs: 1_000, idleMs: 10_000 };
const PAGE = 1_000;

/** @throws Fault("not-found") for a store that was never made; Fault("unavailable") where nobody answers. */
export async function openReader(folder: string, { store }: Pick<Config, "store">): Promise<Reader> {
  const file = join(folder, PATHS.store);
  const db = store.engine === "sqlite" ? await sqlite(file) : await postgres(folder, store);
  const guarded = async <T>(what: string, body: () => Promise<T>) => {
    try {
      return await body();
    } catch (cause) {
      throw store.engine === "postgres" ? faultOf(cause, what) : sqliteFault(cause, { file, what });
    }
  };
  return {
    engine: store.engine,
    migrations: () =>
      guarded("reading migrations", async () => {
        const known = (await readMigrations(FOLDERS[store.engine])).length;
        if (!(await isBegun(db, store.engine))) return { applied: 0, known };
        const { rows } = await sql<{ count: unknown }>`select count(*) as count from migrations`.execute(db);
        return { applied: Number(rows[0]?.count), known };
      }),
    lease: () =>
      guarded("reading the lease", () =>
        db.selectFrom("lease").select(["epoch", "holder", "address"]).executeTakeFirstOrThrow(),
      ),
    durable: () => guarded("reading settings", () => settings(db, store.engine)),
    audit: (remembered, reading) =>
      guarded("reading the audit log", () =>
        // At one moment: a page must not begin after entries that were removed meanwhile.
        atOnce(db, store.engine).execute((tx) => audited(tx, remembered, reading)),
      ),
    close: () => db.destroy(),
  };
}

async function sqlite(file: string): Promise<Kysely<Schema>> {
  await mustBeThere(file);
  try {
    const driver = openSqliteDriver(file);
    driver.prepare("pragma busy_timeout = 2000").all([]);
    driver.prepare("pragma query_only = on").all([]);
    return new Kysely<Schema>({ dialect: new SqliteDialect({ database: driver }) });
  } catch (cause) {
    throw new Fault("storage", file, { expected: "a SQLite database", got: `${cause}`, cause });
  }
}

async function postgres(
  folder: string,
  store: Extract<Config["store"], { engine: "postgres" }>,
): Promise<Kysely<Schema>> {
  const url = await postgresUrl(folder, store);
  const pool = openPool({ url, size: 1, name: "tutti reader", limits: LIMITS });
  return new Kysely<Schema>({ dialect: new PostgresDialect({ pool }) });
}

/** False for a database that was made, and that no coordinator has opened yet. */
async function isBegun(db: Kysely<Schema>, engine: "sqlite" | "postgres"): Promise<boolean> {
  const tables = await (engine === "sqlite"
    ? sql`select 1 from sqlite_master where type = 'table' and name = 'migrations'`
    : sql`select 1 where to_regclass('migrations') is not null`
  ).execute(db);
  return tables.rows.length > 0;
}

async function settings(db: Kysely<Schema>, engine: "sqlite" | "postgres"): ReturnType<Reader["durable"]> {
  if (engine === "sqlite") {
    // The journal's mode is the file's; `synchronous` each connection's, and the coordinator checks its own.
    const { rows } = await sql<{ journal_mode: string }>`pragma journal_mode`.execute(db);
    const got = `${rows[0]?.journal_mode}`;
    return { journal_mode: { got, ok: got === "wal" } };
  }
  const names = ["fsync", "full_page_writes", "synchronous_commit"];
  const found = await Promise.all(
    names.map(async (name) => {
      const { rows } = await sql<{ value: string }>`select current_setting(${name}) as value`.execute(db);
      const got = `${rows[0]?.value}`;
      return [name, { got, ok: ["on", "remote_apply"].includes(got) }] as const;
    }),
  );
  return Object.fromEntries(found);
}

function atOnce(db: Kysely<Schema>, engine: "sqlite" | "postgres") {
  const transaction = db.transaction();
  if (engine === "sqlite") return transaction;
  return transaction.setIsolationLevel("repeatable read").setAccessMode("read only");
}

async function audited(
  db: Kysely<Schema>,
  remembered: readonly Head[],
  { takes = () => {}, older = nothing() }: AuditReading = {},
): Promise<AuditRead> {
  const head = await auditHead({ db });
  const own = head.count > 0 ? [head] : [];
  const checker = new Checker(AUDIT_OWNER, [...remembered, ...own]);
  const take = (line: string) => takes(checker.take(line), line);
  const first = seqOf((await auditLines({ db }, { from: 0, most: 1 }))[0] ?? "");
  for await (const line of older) {
    const seq = seqOf(line);
    // Parts may overlap; what the store has too is read from there.
    if (seq < first && (checker.head.count === 0 || seq === checker.head.count)) take(line);
  }
  for (let { count: from } = checker.head; ; ) {
    const lines = await auditLines({ db }, { from, most: PAGE });
    for (const line of lines) take(line);
    from = checker.head.count;
    if (lines.length < PAGE) break;
  }
  const { begins, removed, unreachable } = checker;
  return { ...checker.end(), begins, removed, unreachable };
}

/** 0 for what is no line of a log: reading it says so. */
function seqOf(line: string): number {
  return Number(/^\{"seq":(\d{1,15}),/.exec(line)?.[1] ?? 0);
}

async function* nothing(): AsyncGenerator<string> {}
