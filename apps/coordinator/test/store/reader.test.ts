import { mkdir, mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { type Head, lineAfter, startOf } from "@tutti/audit/chain";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { PATHS } from "../../src/folder/layout.ts";
import { AUDIT_OWNER } from "../../src/store/audit.ts";
import { openSqlite } from "../../src/store/open.ts";
import { openReader } from "../../src/store/reader.ts";
import { openSource } from "../../src/store/source.ts";
import { driversHere, openSqliteDriver } from "../../src/store/sqlite-driver.ts";
import { openStore } from "../../src/store/store.ts";

/** A SQLite federation's audit log under whoever has its file. */

let folder: string;
let file: string;
beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), "tutti-reader-"));
  file = join(folder, PATHS.store);
});
afterEach(() => rm(folder, { recursive: true, force: true }));

const SQLITE = { store: { engine: "sqlite" } } as const;
const WHATS = ["one", "two", "three", "four"];

/** Writes entries; the head after each, as a device may have been told it. */
async function written(): Promise<Head[]> {
  const store = await openStore({ file });
  const heads: Head[] = [];
  for (const what of WHATS) {
    await store.note({ actor: "owner", what, subject: "s" });
    heads.push(await store.auditHead());
  }
  await store.close();
  return heads;
}

async function verify(remembered: readonly Head[] = []): Promise<number> {
  const reader = await openReader(folder, SQLITE);
  try {
    return (await reader.audit(remembered)).count;
  } finally {
    await reader.close();
  }
}

function tamper(...statements: readonly string[]): void {
  const driver = openSqliteDriver(file);
  for (const statement of statements) driver.exec(statement);
  driver.close();
}

/** The log written anew from a line on, by someone who knows how. */
function forged(whats: readonly string[]): string[] {
  let head = startOf(AUDIT_OWNER);
  const inserts = whats.map((what, seq) => {
    const next = lineAfter(head, { actor: "owner", what, subject: "s" }, 0);
    head = next.head;
    return `insert into audit (seq, line) values (${seq}, '${next.line}')`;
  });
  return [
    "delete from audit",
    ...inserts,
    `update audit_head set entries = ${whats.length}, hash = '${head.hash}'`,
  ];
}

test("reads beside the coordinator that writes, and changes nothing", async () => {
  const heads = await written();
  const store = await openStore({ file });
  expect(await verify(heads)).toBe(WHATS.length);
  await store.note({ actor: "owner", what: "five", subject: "s" });
  expect(await verify([...heads, await store.auditHead()])).toBe(WHATS.length + 1);
  await store.close();
});

test("a line that was changed, removed or cut off is found by the store's own head", async () => {
  for (const [change, says] of [
    [`update audit set line = replace(line, '"two"', '"owt"')`, /line 2/],
    ["delete from audit where seq = 1", /line 2/],
    ["delete from audit where seq = 3", /at least 4 entries, as remembered, got 3/],
  ] as const) {
    await written();
    tamper(change);
    await expect(verify()).rejects.toThrow(says);
    await rm(dirname(file), { recursive: true });
  }
});

test("a log that was written anew, or cut with its head, is found by what a device remembers", async () => {
  for (const whats of [["one", "2", "three", "four"], ["one", "two"], WHATS]) {
    const heads = await written();
    tamper(...forged(whats));
    expect(await verify()).toBe(whats.length);
    await expect(verify(heads.slice(-1))).rejects.toThrow(/as remembered/);
    await rm(dirname(file), { recursive: true });
  }
});

describe("a log whose old entries were removed", () => {
  /** 250 entries and a device's memory of each head; then the oldest go. */
  async function removed(): Promise<{ heads: Head[]; older: string[] }> {
    const store = await openStore({ file });
    const heads: Head[] = [];
    for (let at = 0; at < 250; at++) {
      await store.note({ actor: "owner", what: "artifact.put", subject: `${at}` });
      heads.push(await store.auditHead());
    }
    const older = await store.auditLines({ from: 0, most: 160 });
    expect(await store.forgetEntries(100)).toBe(150);
    heads.push(await store.auditHead());
    await store.close();
    return { heads, older };
  }
  async function read(remembered: readonly Head[], older: readonly string[] = []) {
    const reader = await openReader(folder, SQLITE);
    const lines = (async function* () {
      yield* older;
    })();
    return await reader.audit(remembered, { older: lines }).finally(() => reader.close());
  }

  test("is whole from there on, and fits what devices remember of what is there", async () => {
    const { heads } = await removed();
    const { count, begins, removed: last, unreachable } = await read(heads);
    expect([count, begins, unreachable]).toEqual([251, heads[149], 149]);
    expect(last).toMatchObject({ from: 0, to: 150 });
    const lie = { count: 150, hash: "00".repeat(32) };
    await expect(read([lie])).rejects.toThrow(/as remembered/);
  });

  test("with the part that was exported it is whole from the first entry on", async () => {
    const { heads, older } = await removed();
    const { begins, unreachable } = await read(heads, older);
    expect([begins.count, unreachable]).toEqual([0, 0]);
    expect((await read(heads, older.slice(90))).begins).toEqual(heads[89]);
    await expect(read(heads, older.slice(0, 140))).rejects.toThrow(
      /line 141: expected entry 140, got entry 150/,
    );
    // Of later parts the store has all.
    expect((await read(heads, older.slice(155))).begins.count).toBe(150);
  });

  test("that went further than an entry says is refused", async () => {
    await removed();
    tamper("delete from audit where seq < 151");
    await expect(read([])).rejects.toThrow(/its beginning: .*first 151 were removed, got none/);
  });
});

test("a store that was never made is not made by looking", async () => {
  for (const looks of [openReader, openSource])
    await expect(looks(folder, SQLITE)).rejects.toMatchObject({
      code: "not-found",
      what: file,
      detail: { expected: "a store", got: "none", todo: expect.stringContaining("tutti serve") },
    });
});

test.each(driversHere())("a damaged file is told by its name, and what to do, with %s", async (driver) => {
  await mkdir(dirname(file));
  const made = openSqliteDriver(file, driver);
  made.exec("create table migrations (number integer primary key, sha256 text not null)");
  made.close();
  const whole = await readFile(file);
  const told = {
    code: "storage",
    what: file,
    detail: { got: expect.stringMatching(/not a database|malformed/), todo: expect.stringMatching(/backup/) },
  };
  // Its header, and all that follows it.
  for (const [from, to] of [[0, 100] as const, [100, whole.length] as const]) {
    await writeFile(file, Buffer.from(whole).fill(0x55, from, to));
    await expect(openSqlite({ file, driver })).rejects.toMatchObject(told);
    const reader = await openReader(folder, SQLITE);
    await expect(reader.migrations()).rejects.toMatchObject(told);
    await reader.close();
    await expect(openSource(folder, SQLITE)).rejects.toMatchObject(told);
  }
});
