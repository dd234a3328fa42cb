import { readdir, readFile } from "node:fs/promises";
import { Fault } from "@tutti/foundation/fault";
import { sha256Hex } from "@tutti/foundation/hash";
import type { SqliteDriver } from "./sqlite-driver.ts";

export type Migration = { readonly number: number; readonly sql: string; readonly sha256: string };
/** A migration that a database says it has seen. */
export type Applied = { readonly number: number; readonly sha256: string };

/** Each engine's own files, under the same numbers. */
export const FOLDERS = {
  sqlite: new URL("./migrations/sqlite/", import.meta.url),
  postgres: new URL("./migrations/postgres/", import.meta.url),
};

/** The numbered files, in order, without gaps. */
export async function readMigrations(folder: URL = FOLDERS.sqlite): Promise<Migration[]> {
  const names = (await readdir(folder)).filter((name) => /^\d{4}\.sql$/.test(name)).sort();
  return Promise.all(
    names.map(async (name, at) => {
      if (Number.parseInt(name, 10) !== at + 1)
        throw new Fault("storage", "migrations", { expected: `file ${at + 1} next`, got: name });
      const bytes = await readFile(new URL(name, folder));
      return { number: at + 1, sql: bytes.toString("utf8"), sha256: sha256Hex(bytes) };
    }),
  );
}

/**
 * What a database has not seen yet.
 * @throws Fault("unsupported") for a database of a newer Tutti; Fault("storage") when an applied file changed
 * since.
 */
export function pending(applied: readonly Applied[], migrations: readonly Migration[]): Migration[] {
  if (applied.length > migrations.length) {
    throw new Fault("unsupported", "database", {
      expected: `at most migration ${migrations.length}`,
      got: `${applied.length}`,
      todo: "It was written by a newer Tutti; use that one",
    });
  }
  return migrations.filter(({ number, sha256 }) => {
    const before = applied[number - 1];
    if (before === undefined) return true;
    if (before.number === number && before.sha256 === sha256) return false;
    throw new Fault("storage", `migration ${number}`, { expected: before.sha256, got: sha256 });
  });
}

/** Applies what a SQLite database has not seen, each in its own transaction, and records it. */
export function migrate(driver: SqliteDriver, migrations: readonly Migration[]): void {
  driver.exec(
    "create table if not exists migrations (number integer primary key not null, sha256 text not null)" +
      " strict",
  );
  const applied = driver.prepare("select number, sha256 from migrations order by number").all([]);
  for (const migration of pending(applied as Applied[], migrations)) apply(driver, migration);
}

function apply(driver: SqliteDriver, { number, sha256, sql }: Migration): void {
  driver.exec("begin immediate");
  try {
    driver.exec(sql);
    driver.prepare("insert into migrations (number, sha256) values (?, ?)").run([number, sha256]);
    driver.exec("commit");
  } catch (error) {
    driver.prepare("rollback").run([]);
    throw error;
  }
}
