import { spawn } from "node:child_process";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { sql } from "kysely";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { openSqlite } from "../../src/store/open.ts";
import { driversHere } from "../../src/store/sqlite-driver.ts";
import { openStore } from "../../src/store/store.ts";
import { bytes } from "./bench.ts";

let folder: string;
let file: string;
beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), "tutti-store-"));
  file = join(folder, "tutti.sqlite");
});
afterEach(() => rm(folder, { recursive: true, force: true }));

describe.each(driversHere())("a file on %s", (driver) => {
  test("a second coordinator on it is refused by name", async () => {
    const open = () => openStore({ file, driver });
    const store = await open();
    await expect(open()).rejects.toMatchObject({ code: "storage", detail: { todo: /another coordinator/i } });
    await store.close();
  });

  test("a transaction that SQLite took back by itself says what was wrong", async () => {
    const { db, close } = await openSqlite({ file, driver });
    await sql`create table t (x primary key)`.execute(db);
    const twice = db.transaction().execute(async (tx) => {
      for (let time = 0; time < 2; time++) await sql`insert or rollback into t values (1)`.execute(tx);
    });
    await expect(twice).rejects.toThrow(/UNIQUE/);
    await db.transaction().execute((tx) => sql`insert into t values (1)`.execute(tx));
    await close();
  });
});

describe("docs/reliability.md, promise 1: acknowledged means durable", () => {
  test("a writer killed again and again loses nothing that it acknowledged", async () => {
    let acknowledged = -1;
    for (const after of [1, 40, 3, 120]) {
      acknowledged = await writeUntilKilled(acknowledged + after);
      const store = await openStore({ file });
      const { entries, sums } = await store.journal("r");
      // At most the one commit in flight may be there beside the acknowledged ones.
      expect(entries.length).toBeGreaterThanOrEqual(acknowledged + 1);
      for (const [seq, entry] of entries.entries()) expect(entry).toEqual(bytes(seq & 255, seq >> 8));
      // The sum is of the same transaction as the last entry.
      const words = new Uint8Array(4096).fill((entries.length - 1) & 255);
      expect(Buffer.compare(sums[0]!.words, words)).toBe(0);
      expect(await store.integrity()).toBe(true);
      await store.close();
    }
  });
});

/** Starts a writer, kills it (SIGKILL) once it said `target`; the last sequence number it said. */
function writeUntilKilled(target: number): Promise<number> {
  const script = fileURLToPath(new URL("./writer.ts", import.meta.url));
  const child = spawn(process.execPath, ["--import", "tsx", script, file], {
    stdio: ["ignore", "pipe", "inherit"],
  });
  let said = "";
  return new Promise((resolve, reject) => {
    child.stdout.on("data", (data: Buffer) => {
      said += data.toString();
      if (last(said) >= target) child.kill("SIGKILL");
    });
    child.on("error", reject);
    child.on("close", (_code, signal) => {
      if (signal === "SIGKILL") resolve(last(said));
      else reject(new Error(`the writer ended by itself (${signal})`));
    });
  });
}

function last(said: string): number {
  // The last line may be cut: only what ends in a newline was said.
  return Number(said.split("\n").at(-2) ?? -1);
}
