import { createRequire } from "node:module";
import { Fault } from "@tutti/foundation/fault";
import type { SqliteDatabase } from "kysely";

/** One open SQLite file, whichever package reads it: what kysely needs, and plain statements beside it. */
export type SqliteDriver = SqliteDatabase & { readonly name: DriverName; exec(sql: string): void };

export type DriverName = "node:sqlite" | "libsql";

type Parameters = readonly unknown[];
type Changes = { changes: number | bigint; lastInsertRowid: number | bigint };

/** The common part of better-sqlite3's statements and node:sqlite's. */
type RawStatement = {
  readonly reader?: boolean;
  columns?(): unknown[];
  all(...parameters: unknown[]): unknown[];
  iterate(...parameters: unknown[]): IterableIterator<unknown>;
  run(...parameters: unknown[]): Changes;
};
type RawDatabase = { prepare(sql: string): RawStatement; exec(sql: string): void; close(): void };

const load = createRequire(import.meta.url);

/** What this platform has; the first is preferred. */
export function driversHere(): DriverName[] {
  return builtin() ? ["node:sqlite", "libsql"] : ["libsql"];
}

/** Opens a database file, made if absent; nothing is configured yet. */
export function openSqliteDriver(
  file: string,
  name: DriverName = driversHere()[0] ?? "libsql",
): SqliteDriver {
  const raw = name === "node:sqlite" ? openBuiltin(file) : openLibsql(file);
  const prepared = new Map<string, Statement>();
  return {
    name,
    exec: (sql) => raw.exec(sql),
    close() {
      prepared.clear();
      raw.close();
    },
    prepare(sql) {
      const statement = prepared.get(sql) ?? made(raw, sql);
      // The store has a few dozen; any more are somebody's own, each of them once.
      if (prepared.size >= MAX_PREPARED) prepared.clear();
      prepared.set(sql, statement);
      return statement;
    },
  };
}

type Statement = ReturnType<SqliteDriver["prepare"]>;

/** Statements kept: to prepare one costs more than to run it. */
const MAX_PREPARED = 100;

function made(raw: RawDatabase, sql: string): Statement {
  const statement = statementOf(raw.prepare(sql), sql);
  return sql === "rollback"
    ? { ...statement, run: (parameters) => quietly(statement, parameters) }
    : statement;
}

/**
 * A full disk, or one that fails, makes SQLite roll back by itself, and then refuse our own rollback
 * (sqlite.org/lang_transaction.html, 3.1): thrown, that would hide what was wrong. Should a transaction be
 * open all the same, the next one cannot begin, and says so.
 */
function quietly(statement: Statement, parameters: Parameters): Changes {
  try {
    return statement.run(parameters);
  } catch {
    return { changes: 0, lastInsertRowid: 0 };
  }
}

function statementOf(raw: RawStatement, sql: string): Statement {
  return {
    reader: raw.reader ?? returnsRows(raw, sql),
    all: (parameters: Parameters) => raw.all(...bound(parameters)).map(plainRow),
    run: (parameters: Parameters) => raw.run(...bound(parameters)),
    iterate: (parameters: Parameters) => raw.iterate(...bound(parameters)),
  };
}

function openBuiltin(file: string): RawDatabase {
  const sqlite = builtin();
  if (!sqlite)
    throw new Fault("unsupported", "node:sqlite", { expected: "Node 22.13 or newer", got: process.version });
  return new sqlite.DatabaseSync(file);
}

function openLibsql(file: string): RawDatabase {
  const Database = load("libsql") as new (file: string) => RawDatabase;
  return new Database(file);
}

function builtin(): { DatabaseSync: new (file: string) => RawDatabase } | undefined {
  // Absent before Node 20.16, and without this module before 22.5 (behind a flag before 22.13).
  return process.getBuiltinModule?.("node:sqlite") as ReturnType<typeof builtin>;
}

/** node:sqlite says it through `columns()` where it has that, else only the text can tell. */
function returnsRows(statement: RawStatement, sql: string): boolean {
  if (statement.columns) return statement.columns().length > 0;
  return /^\s*(?:select|pragma|with|values|explain)\b|\breturning\b/i.test(sql);
}

/** libsql takes a Uint8Array view whole only as a Buffer; node:sqlite takes both. */
function bound(parameters: Parameters): unknown[] {
  return parameters.map((value) =>
    value instanceof Uint8Array ? Buffer.from(value.buffer, value.byteOffset, value.byteLength) : value,
  );
}

/** Blobs as Uint8Array: libsql gives an ArrayBuffer from `all` and a Buffer from `get`. */
function plainRow(row: unknown): unknown {
  if (typeof row !== "object" || row === null) return row;
  const entries = Object.entries(row).map(([name, value]) => [name, plainBlob(value)]);
  return Object.fromEntries(entries);
}

function plainBlob(value: unknown): unknown {
  if (value instanceof ArrayBuffer) return new Uint8Array(value);
  if (value instanceof Uint8Array) return new Uint8Array(value);
  return value;
}
