import { spawn } from "node:child_process";
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath, pathToFileURL } from "node:url";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { driversHere, openDriver } from "../../src/store/driver.ts";
import { migrate, readMigrations } from "../../src/store/migrate.ts";
import { openStore, type Store } from "../../src/store/store.ts";

let folder: string;
let file: string;
beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), "tutti-store-"));
  file = join(folder, "tutti.sqlite");
});
afterEach(() => rm(folder, { recursive: true, force: true }));

const bytes = (...values: number[]) => Uint8Array.from(values);
const aRun = { run: "r1", name: "penguins", plan: bytes(1, 2), header: bytes(3), state: "running" };
const device = { name: "ward-3", serial: bytes(9, 9), certificate: bytes(5, 6, 7) };

describe.each(driversHere())("the store on %s", (driver) => {
  let store: Store;
  let wallMs = 1000;
  const open = () => openStore({ file, driver, nowMs: () => wallMs });
  beforeEach(async () => {
    wallMs = 1000;
    store = await open();
  });
  afterEach(() => store.close().catch(() => {}));

  async function reopen(): Promise<void> {
    await store.close();
    store = await open();
  }

  test("a device enrols once: the same bytes again are fine, another key is a conflict", async () => {
    await store.addDevice(device);
    await store.addDevice({ ...device });
    const other = bytes(5, 6, 8);
    await expect(store.addDevice({ ...device, certificate: other })).rejects.toMatchObject({
      code: "conflict",
    });
    await expect(store.addDevice({ ...device, name: "ward-4" })).rejects.toMatchObject({ code: "conflict" });
    await expect(store.addDevice({ ...device, serial: bytes(1), certificate: other })).rejects.toMatchObject({
      code: "conflict",
    });
    await reopen();
    expect(await store.device("ward-3")).toEqual({
      name: "ward-3",
      certificate: bytes(5, 6, 7),
      revoked: false,
    });
    expect(await store.device("ward-4")).toBeUndefined();
  });

  test("a revoked device stays revoked though it enrols again", async () => {
    await store.addDevice(device);
    expect(await store.revokeDevice("ward-3")).toBe(true);
    expect(await store.revokeDevice("nobody")).toBe(false);
    await store.addDevice(device);
    expect((await store.devices()).map(({ name, revoked }) => [name, revoked])).toEqual([["ward-3", true]]);
  });

  test("runs keep the order they were added in, though the clock steps back", async () => {
    await store.addRun({ ...aRun, run: "b" });
    wallMs = 10;
    await store.addRun({ ...aRun, run: "c" });
    await store.addRun({ ...aRun, run: "a" });
    await expect(store.addRun({ ...aRun, run: "a" })).rejects.toMatchObject({ code: "conflict" });
    await reopen();
    expect((await store.runs()).map(({ run }) => run)).toEqual(["b", "c", "a"]);
    expect(await store.run("c")).toEqual({ ...aRun, run: "c" });
    expect(await store.run("z")).toBeUndefined();
  });

  test("a commit is all or nothing: what came before its conflict is not there", async () => {
    await store.addRun(aRun);
    await store.commit("r1", { append: [{ seq: 0, entry: bytes(1) }] });
    const change = {
      header: bytes(7),
      state: "finished",
      sums: [{ cohort: 0, words: bytes(2) }],
      release: { version: 0, digest: "d", envelope: bytes(8) },
      append: [
        { seq: 1, entry: bytes(2) },
        { seq: 0, entry: bytes(99) },
      ],
    };
    await expect(store.commit("r1", change)).rejects.toMatchObject({ code: "conflict" });
    await reopen();
    expect(await store.journal("r1")).toEqual({ entries: [bytes(1)], sums: [] });
    expect(await store.run("r1")).toEqual(aRun);
    expect(await store.releases("r1")).toEqual([]);
  });

  test("a commit repeated (its acknowledgement was lost) changes nothing", async () => {
    await store.addRun(aRun);
    const change = {
      append: [{ seq: 0, entry: bytes(1) }],
      sums: [
        { cohort: 0, words: bytes(1, 2, 3, 4) },
        { cohort: 2, words: bytes(5) },
      ],
      release: { version: 0, digest: "d", envelope: bytes(8) },
    };
    await store.commit("r1", change);
    await store.commit("r1", change);
    expect(await store.journal("r1")).toEqual({ entries: [bytes(1)], sums: change.sums });
    expect(await store.releases("r1")).toEqual([change.release]);
    const other = { ...change.release, envelope: bytes(9) };
    await expect(store.commit("r1", { release: other })).rejects.toMatchObject({ code: "conflict" });
  });

  test("closing a round: header, release and empty journal at once; other runs untouched", async () => {
    await store.addRun(aRun);
    await store.addRun({ ...aRun, run: "r2" });
    for (const run of ["r1", "r2"])
      await store.commit(run, {
        append: [0, 1, 2].map((seq) => ({ seq, entry: bytes(seq) })),
        sums: [{ cohort: 0, words: bytes(1, 2, 3, 4) }],
      });
    const release = { version: 1, digest: "abc", envelope: bytes(8) };
    await store.commit("r1", { header: bytes(4), state: "finished", clearJournal: true, release });
    await reopen();
    expect(await store.journal("r1")).toEqual({ entries: [], sums: [] });
    expect(await store.run("r1")).toMatchObject({ header: bytes(4), state: "finished" });
    expect(await store.releases("r1")).toEqual([release]);
    expect((await store.journal("r2")).entries).toHaveLength(3);
    // A store that was opened again can also write, at once.
    await store.commit("r1", { append: [{ seq: 0, entry: bytes(1) }] });
  });

  test("an unknown run is not found, and nothing is written", async () => {
    await expect(store.commit("r9", { append: [{ seq: 0, entry: bytes(1) }] })).rejects.toMatchObject({
      code: "not-found",
    });
    expect(await store.journal("r9")).toEqual({ entries: [], sums: [] });
  });

  test("concurrent commits queue; each is whole", async () => {
    await store.addRun(aRun);
    const commits = Array.from({ length: 50 }, (_, seq) =>
      store.commit("r1", {
        append: [{ seq, entry: bytes(seq) }],
        sums: [{ cohort: seq % 2, words: bytes(seq) }],
      }),
    );
    await Promise.all(commits);
    const { entries, sums } = await store.journal("r1");
    expect(entries.map((entry) => entry[0])).toEqual(Array.from({ length: 50 }, (_, at) => at));
    expect(sums).toEqual([48, 49].map((seq) => ({ cohort: seq % 2, words: bytes(seq) })));
  });

  test("what comes back is a plain Uint8Array of its own, whatever the driver gives", async () => {
    const big = new Uint8Array(3_000_000).map((_, at) => at * 7);
    await store.addRun({ ...aRun, plan: big.subarray(1000, 2_000_000) });
    const { plan } = (await store.run("r1"))!;
    expect(Object.getPrototypeOf(plan)).toBe(Uint8Array.prototype);
    expect(plan.byteOffset).toBe(0);
    expect(Buffer.compare(plan, big.subarray(1000, 2_000_000))).toBe(0);
  });

  test("a second coordinator on the same file is refused by name", async () => {
    await expect(open()).rejects.toMatchObject({ code: "storage", detail: { todo: /another coordinator/i } });
  });

  test("errors of the engine are Fault(storage)", async () => {
    await store.close();
    await expect(store.runs()).rejects.toMatchObject({ code: "storage", what: "reading runs" });
  });

  test("integrity: whole when whole", async () => {
    await store.addRun(aRun);
    expect(await store.integrity()).toBe(true);
  });
});

describe.each(driversHere())("migrations on %s", (name) => {
  test("twice is once; a changed file and a newer database are refused", async () => {
    const driver = openDriver(file, name);
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
    const driver = openDriver(file, name);
    const all = await readMigrations();
    migrate(driver, all.slice(0, 1));
    driver.exec("insert into runs values ('r', 'n', x'00', 'running', x'00', 1)");
    driver.exec("insert into sums values ('r', x'', x'07000000')");
    migrate(driver, all);
    const [row] = driver.prepare("select * from sums").all([]) as Record<string, unknown>[];
    expect(row).toEqual({ run: "r", cohort: 0, words: bytes(7, 0, 0, 0) });
    driver.close();
  });

  test("one that fails leaves nothing behind, and those before it stand", async () => {
    const driver = openDriver(file, name);
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
