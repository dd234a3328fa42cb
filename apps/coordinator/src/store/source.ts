import { join } from "node:path";
import { Fault } from "@tutti/foundation/fault";
import { Kysely, SqliteDialect, sql } from "kysely";
import type { Config } from "../folder/config.ts";
import { PATHS } from "../folder/layout.ts";
import { postgresUrl } from "./database.ts";
import type { Engine } from "./engine.ts";
import { FOLDERS, readMigrations } from "./migrate.ts";
import { readPostgres } from "./postgres.ts";
import type { Schema } from "./schema.ts";
import { openSqliteDriver } from "./sqlite-driver.ts";
import { mustBeThere, sqliteFault } from "./sqlite-file.ts";

/** A database as somebody reads it while a coordinator may be writing to it; nothing is changed. */
export type Source = Pick<Engine, "name" | "db" | "close" | "faultOf">;

/** How long a read waits for a moment in which nobody writes; in WAL mode there is hardly ever one. */
const BUSY_MS = 5_000;

/** @throws Fault("unsupported") where it is of another Tutti than this one. */
export async function openSource(folder: string, config: Pick<Config, "store">): Promise<Source> {
  const { store } = config;
  const source =
    store.engine === "sqlite"
      ? await readSqlite(join(folder, PATHS.store))
      : readPostgres(await postgresUrl(folder, store));
  try {
    await mustBeOurs(source);
    return source;
  } catch (cause) {
    await source.close();
    throw source.faultOf(cause, "reading the database");
  }
}

async function readSqlite(file: string): Promise<Source> {
  await mustBeThere(file);
  const driver = openSqliteDriver(file);
  for (const pragma of [`busy_timeout = ${BUSY_MS}`, "query_only = on"])
    driver.prepare(`pragma ${pragma}`).all([]);
  return {
    name: "sqlite",
    db: new Kysely<Schema>({ dialect: new SqliteDialect({ database: driver }) }),
    faultOf: (cause, what) => sqliteFault(cause, { file, what }),
    close: async () => driver.close(),
  };
}

async function mustBeOurs({ name, db }: Source): Promise<void> {
  const wanted = (await readMigrations(FOLDERS[name])).length;
  const { rows } = await sql<{ count: number }>`select count(*) as count from migrations`.execute(db);
  const got = rows[0]?.count;
  if (got === wanted) return;
  throw new Fault("unsupported", "database", {
    expected: `migration ${wanted}`,
    got: `${got}`,
    todo: "Use the Tutti that serves it",
  });
}
