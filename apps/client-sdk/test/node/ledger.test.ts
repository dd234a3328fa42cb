import { fstatSync } from "node:fs";
import { mkdtemp, readFile, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, expect, test, vi } from "vitest";
import { openLedger } from "../../src/node/ledger.ts";

/** What was synced, in order: a power cut keeps these, and no name whose folder is not among them. */
const synced = vi.hoisted((): string[] => []);
vi.mock("node:fs", async (original) => {
  const real = await original<typeof import("node:fs")>();
  const fsyncSync = (handle: number) => {
    synced.push(fstatSync(handle).isDirectory() ? "folder" : "file");
    real.fsyncSync(handle);
  };
  return { ...real, fsyncSync };
});

let home: string;
beforeAll(async () => {
  home = await mkdtemp(join(tmpdir(), "tutti-ledger-"));
});
afterAll(() => rm(home, { recursive: true, force: true }));

test("a process's first line is kept with the file's name, each later one by itself", async () => {
  const file = join(home, "rounds.log");
  const ledger = openLedger(file);
  ledger.add("run", 0);
  expect(synced.splice(0)).toEqual(["file", "folder"]);
  ledger.add("run", 1);
  openLedger(file).add("run", 2);
  expect(synced).toEqual(["file", "file", "folder"]);
  expect(await readFile(file, "utf8")).toBe("\nrun 0\nrun 1\nrun 2");
});
