import { mkdtemp, readdir, readFile, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { basename, join } from "node:path";
import { afterEach, beforeEach, expect, test, vi } from "vitest";
import { replaceFile, replaceFolder } from "../../src/node/atomic.ts";

/** What was synced and renamed, in order: nothing else shows what a power cut would have left. */
const disk = vi.hoisted(() => ({ done: [] as string[] }));
vi.mock("node:fs/promises", async (original) => {
  const real = await original<typeof import("node:fs/promises")>();
  return {
    ...real,
    rename: async (from: string, to: string) => {
      await real.rename(from, to);
      disk.done.push(`rename ${basename(from)}`);
    },
    open: async (path: string, flags?: string, mode?: number) => {
      const handle = await real.open(path, flags, mode);
      const sync = handle.sync.bind(handle);
      handle.sync = async () => {
        await sync();
        // As long as it is: bytes that come after the sync are not durable.
        disk.done.push(`sync ${basename(path)} ${flags === "r" ? "" : (await handle.stat()).size}`.trim());
      };
      return handle;
    },
  };
});

let home: string;
beforeEach(async () => {
  home = await mkdtemp(join(tmpdir(), "tutti-atomic-"));
  disk.done.length = 0;
});
afterEach(() => rm(home, { recursive: true, force: true }));

test("a file's bytes are synced before its name, and its name before it counts", async () => {
  await replaceFile(join(home, "file"), "text");
  expect(disk.done).toEqual(["sync file.new 4", "rename file.new", `sync ${basename(home)}`]);
  expect(await readFile(join(home, "file"), "utf8")).toBe("text");
});

test("so are a folder's files and their names", async () => {
  await replaceFolder(join(home, "folder"), { a: "1", b: "22" });
  const names = ["sync a 1", "sync b 2", "sync folder.new", "rename folder.new", `sync ${basename(home)}`];
  expect(disk.done).toEqual(names);
  expect(await readdir(join(home, "folder"))).toEqual(["a", "b"]);
});
