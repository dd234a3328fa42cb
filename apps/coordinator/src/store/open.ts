import { dirname, resolve } from "node:path";
import { asFault, Fault } from "@tutti/foundation/fault";
import { Kysely, SqliteDialect, sql } from "kysely";
import { makeFolder, syncFolder } from "../folder/files.ts";
import type { Engine } from "./engine.ts";
import { migrate, readMigrations } from "./migrate.ts";
import type { Schema } from "./schema.ts";
import { type DriverName, openSqliteDriver, type SqliteDriver } from "./sqlite-driver.ts";
import { sqliteFault } from "./sqlite-file.ts";

export type OpenOptions = {
  /** The database file; its folder is made if absent. */
  readonly file: string;
  /** The wall clock, for when a row was added. */
  readonly nowMs?: () => number;
  /** For tests; the platform's best otherwise. */
  readonly driver?: DriverName;
};

/**
 * WAL with FULL: a commit is one append and one fsync, durable when it returns (docs/reliability.md,
 * Storage).
 */
const PRAGMAS = ["journal_mode = wal", "synchronous = full", "foreign_keys = on", "trusted_schema = off"];

/** Milliseconds since 1970, from days since -4713. */
const NOW_MS = sql<number>`cast(round((julianday('now') - 2440587.5) * 86400000) as integer)`;

/**
 * A SQLite file, made if absent, for this process alone.
 * @throws Fault("storage"), among others where another process has the file.
 */
export async function openSqlite(options: OpenOptions): Promise<Engine> {
  const folder = dirname(resolve(options.file));
  const migrations = await readMigrations();
  await makeFolder(folder);
  const lock = takeLock(options);
  try {
    const driver = configured(options, (opened) => migrate(opened, migrations));
    // The file's name is durable too, not only what is in it.
    await syncFolder(folder);
    const db = new Kysely<Schema>({ dialect: new SqliteDialect({ database: driver }) });
    return engineOf(db, driver, lock);
  } catch (cause) {
    lock.close();
    throw cause;
  }
}

function engineOf(db: Kysely<Schema>, driver: SqliteDriver, lock: SqliteDriver): Engine {
  return {
    name: "sqlite",
    db,
    leases: db,
    session: "",
    holderLeft: sql<boolean>`0`,
    nowMs: NOW_MS,
    locksRows: false,
    alone: async () => {},
    faultOf: (cause, what) =>
      cause instanceof Fault ? cause : new Fault("storage", what, { got: asFault(cause).message, cause }),
    // Nobody else has the file open.
    hint: async () => {},
    onHint: () => {},
    onLeft: () => {},
    integrity: async () => {
      const [check] = driver.prepare("pragma integrity_check").all([]) as { integrity_check: string }[];
      return (
        check?.integrity_check === "ok" && driver.prepare("pragma foreign_key_check").all([]).length === 0
      );
    },
    close: async () => {
      driver.close();
      lock.close();
    },
  };
}

/**
 * A second coordinator on the same file would append to the same journal. SQLite's own exclusive mode cannot
 * keep it out: libsql holds a closed file open until its last statement is collected, and would keep us out
 * as well. So an empty database beside it is locked, without any statement; the system frees it however this
 * process ends.
 */
function takeLock({ file, driver: name }: OpenOptions): SqliteDriver {
  return opening(`${file}.lock`, name, (lock) => lock.exec("begin exclusive"));
}

function configured(
  { file, driver: name }: OpenOptions,
  prepare: (driver: SqliteDriver) => void,
): SqliteDriver {
  return opening(file, name, (driver) => {
    for (const pragma of PRAGMAS) driver.prepare(`pragma ${pragma}`).all([]);
    mustBe(driver, "journal_mode", "wal");
    mustBe(driver, "synchronous", 2);
    mustBe(driver, "foreign_keys", 1);
    prepare(driver);
  });
}

function opening(
  file: string,
  name: DriverName | undefined,
  prepare: (driver: SqliteDriver) => void,
): SqliteDriver {
  let driver: SqliteDriver | undefined;
  try {
    driver = openSqliteDriver(file, name);
    prepare(driver);
    return driver;
  } catch (cause) {
    driver?.close();
    const what = "opening the database";
    const got = asFault(cause).message;
    if (!/locked|busy/i.test(got)) throw sqliteFault(cause, { file, what });
    throw new Fault("storage", what, { got, cause, todo: "Another coordinator uses it; stop that one" });
  }
}

/** SQLite ignores a pragma that it cannot honour; durability must not rest on that. */
function mustBe(driver: SqliteDriver, pragma: string, expected: string | number): void {
  const [row] = driver.prepare(`pragma ${pragma}`).all([]) as Record<string, unknown>[];
  const got = row?.[pragma];
  if (got !== expected)
    throw new Fault("storage", `pragma ${pragma}`, { expected: `${expected}`, got: `${got}` });
}
