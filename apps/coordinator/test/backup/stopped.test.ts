import { mkdtemp, readdir, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { platformRandom } from "@tutti/foundation/random";
import { afterAll, beforeAll, expect, test } from "vitest";
import { backUp } from "../../src/backup/backup.ts";
import { MANIFEST } from "../../src/backup/manifest.ts";
import { restore } from "../../src/backup/restore.ts";
import { initFederation } from "../../src/folder/init.ts";
import { madeBackup } from "./made.ts";

const init = { name: "f", host: "127.0.0.1", port: 1, random: platformRandom(), nowMs: Date.now() };
let home: string;
let from: string;
beforeAll(async () => {
  home = await mkdtemp(join(tmpdir(), "tutti-stopped-"));
  from = await madeBackup(home);
});
afterAll(() => rm(home, { recursive: true, force: true }));

/** Told to stop when it is asked for the time `last`. */
function stopAt(last: number, reason: Error) {
  const asked = { count: 0 };
  const throwIfAborted = () => {
    asked.count += 1;
    if (asked.count >= last) throw reason;
  };
  return { asked, signal: { throwIfAborted } as unknown as AbortSignal };
}

test("a restore that is told to stop, wherever it is, ends by that and leaves nothing behind", async () => {
  const reason = new Error("Ctrl-C");
  const never = stopAt(Number.POSITIVE_INFINITY, reason);
  await restore({ from, folder: join(home, "whole"), nowMs: 1, signal: never.signal });
  const there = await readdir(home);
  const all = never.asked.count;
  // Before each file is checked, before each is placed, before each row.
  expect(all).toBeGreaterThan(20);
  for (let last = 1; last <= all; last += 3) {
    const { signal } = stopAt(last, reason);
    await expect(restore({ from, folder: join(home, "again"), nowMs: 1, signal })).rejects.toBe(reason);
    expect(await readdir(home)).toEqual(there);
  }
});

test("a place below a file: init, backup and restore fail by storage, and say why", async () => {
  const below = (name: string) => join(from, MANIFEST, name);
  const told = { code: "storage", detail: { got: expect.stringMatching(/ENOTDIR|EEXIST/) } };
  await expect(restore({ from, folder: below("r"), nowMs: 1 })).rejects.toMatchObject(told);
  const folder = join(home, "federation");
  await expect(backUp({ folder, to: below("b"), nowMs: 1 })).rejects.toMatchObject(told);
  for (const deep of ["i", "i/j"])
    await expect(initFederation({ folder: below(deep), ...init })).rejects.toMatchObject(told);
});

test("a file of a name that no coordinator reads is left out, and said so", async () => {
  const folder = join(home, "federation");
  const names = ["tls.pem~", "a..b", "a key.pem", "operator.txt"];
  for (const name of names) await writeFile(join(folder, "coordinator", name), "x");
  const said: string[] = [];
  const to = join(home, "named");
  const { manifest } = await backUp({ folder, to, nowMs: 1, progress: (line) => said.push(line) });
  for (const name of names.slice(0, 3))
    expect(said.filter((line) => line.startsWith(`left out "coordinator/${name}"`))).toHaveLength(1);
  const paths = manifest.files.map(({ path }) => path);
  expect(paths.filter((path) => /~|\.\.| |operator/.test(path))).toEqual(["folder/coordinator/operator.txt"]);
  await restore({ from: to, folder: join(home, "named-again"), nowMs: 1 });
});
