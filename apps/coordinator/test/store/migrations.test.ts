import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { pathToFileURL } from "node:url";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { SKIP_POSTGRES } from "../../../../claims/support/postgres/binaries.ts";
import { sharedCluster } from "../../../../claims/support/postgres/shared.ts";
import { FOLDERS, migrate, readMigrations } from "../../src/store/migrate.ts";
import { migratePostgres, openPostgres } from "../../src/store/postgres.ts";
import { TABLES } from "../../src/store/schema.ts";
import { driversHere, openSqliteDriver } from "../../src/store/sqlite-driver.ts";
import { BENCHES, bytes } from "./bench.ts";
import { describeSchema } from "./schemas.ts";

let folder: string;
let file: string;
beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), "tutti-store-"));
  file = join(folder, "tutti.sqlite");
});
afterEach(() => rm(folder, { recursive: true, force: true }));

describe.each(driversHere())("migrations on %s", (name) => {
  test("twice is once; a changed file and a newer database are refused", async () => {
    const driver = openSqliteDriver(file, name);
    const all = await readMigrations();
    migrate(driver, all);
    migrate(driver, all);
    expect(driver.prepare("select count(*) as n from migrations").all([])).toEqual([{ n: all.length }]);
    const changed = all.map((one) => ({ ...one, sha256: "0" }));
    expect(() => migrate(driver, changed)).toThrow(/migration 1/);
    expect(() => migrate(driver, [])).toThrow(/newer Tutti/);
    driver.close();
  });

  test("the running sum of a coordinator that knew one cohort is that of the first", async () => {
    const driver = openSqliteDriver(file, name);
    const all = await readMigrations();
    migrate(driver, all.slice(0, 1));
    driver.exec("insert into runs values ('r', 'n', x'00', 'running', x'00', 1)");
    driver.exec("insert into sums values ('r', x'', x'07000000')");
    migrate(driver, all);
    const [row] = driver.prepare("select * from sums").all([]) as Record<string, unknown>[];
    expect(row).toEqual({ run: "r", cohort: 0, at: 0, words: bytes(7, 0, 0, 0) });
    driver.close();
  });

  test("one that fails leaves nothing behind, and those before it stand", async () => {
    const driver = openSqliteDriver(file, name);
    const good = { number: 1, sha256: "a", sql: "create table good (x integer) strict;" };
    const bad = {
      number: 2,
      sha256: "b",
      sql: "create table half (x integer) strict; create table good (x);",
    };
    expect(() => migrate(driver, [good, bad])).toThrow();
    const tables = driver
      .prepare("select name from sqlite_master where type = 'table' order by name")
      .all([]);
    expect(tables).toEqual([{ name: "good" }, { name: "migrations" }]);
    driver.close();
  });

  test("files are numbered without gaps", async () => {
    await writeFile(join(folder, "0002.sql"), "");
    await expect(readMigrations(pathToFileURL(`${folder}/`))).rejects.toMatchObject({ code: "storage" });
  });
});

describe.skipIf(SKIP_POSTGRES)("the engines' schemas", () => {
  test("are the same: tables, columns, kinds, what may be null, keys and references", async () => {
    const described = [];
    for (const { name, fresh } of BENCHES) {
      const place = await fresh();
      const engine = await place.open();
      described.push({ name, schema: await describeSchema(engine) });
      await engine.close();
      await place.remove();
    }
    const [first, ...others] = described;
    const tables = Object.keys(first!.schema).filter((table) => table !== "migrations");
    expect(tables.sort()).toEqual(Object.keys(TABLES).sort());
    expect(others.map(({ name }) => name)).toContain("postgres");
    for (const other of others) {
      expect(other.schema, other.name).toEqual(first!.schema);
    }
    for (const [table, key] of Object.entries(TABLES))
      expect(first!.schema[table]).toContain(`primary key ${key}`);
  });

  test("have the same numbers", async () => {
    const [sqlite, postgres] = [await readMigrations(FOLDERS.sqlite), await readMigrations(FOLDERS.postgres)];
    expect(postgres.map(({ number }) => number)).toEqual(sqlite.map(({ number }) => number));
  });

  test("three processes that open one empty PostgreSQL at once make its tables once", async () => {
    const url = await (await sharedCluster()).database();
    const engines = await Promise.all([1, 2, 3].map(() => openPostgres({ url })));
    const rows = await engines[0]!.db.selectFrom("lease").selectAll().execute();
    expect(rows).toHaveLength(1);
    await Promise.all(engines.map((engine) => engine.close()));
  });

  test("a PostgreSQL of a newer Tutti, and one whose migrations changed, are refused", async () => {
    const url = await (await sharedCluster()).database();
    const engine = await openPostgres({ url });
    const all = await readMigrations(FOLDERS.postgres);
    await expect(migratePostgres(engine.db, all.slice(1))).rejects.toMatchObject({ code: "unsupported" });
    const changed = all.map((one) => ({ ...one, sha256: "0" }));
    await expect(migratePostgres(engine.db, changed)).rejects.toMatchObject({ code: "storage" });
    await engine.close();
  });
});
