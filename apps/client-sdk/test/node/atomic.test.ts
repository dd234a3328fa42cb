import { mkdtemp, readdir, readFile, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { basename, join } from "node:path";
import { afterEach, beforeEach, expect, test, vi } from "vitest";
import { replaceFile, replaceFolder, settleFolders } from "../../src/node/atomic.ts";

/**
 * What was synced and renamed, in order: nothing else shows what a power cut would have left. And how many
 * steps the process has left: killed, it does nothing more, and of a removal it may have done a part.
 */
const disk = vi.hoisted(() => ({ done: [] as string[], stepsLeft: Infinity }));
vi.mock("node:fs/promises", async (original) => {
  const real = await original<typeof import("node:fs/promises")>();
  const step = () => {
    if (disk.stepsLeft-- <= 0) throw new Error("killed");
  };
  return {
    ...real,
    rm: async (path: string, options: object) => {
      if (disk.stepsLeft === 0) await real.rm(`${path}/a`, { force: true });
      step();
      await real.rm(path, options);
    },
    rename: async (from: string, to: string) => {
      step();
      await real.rename(from, to);
      disk.done.push(`rename ${basename(from)}`);
    },
    open: async (path: string, flags?: string, mode?: number) => {
      step();
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
  disk.stepsLeft = Infinity;
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

const OLD = { a: "old", b: "old" };
const NEW = { a: "new", b: "new" };

/** The files of a folder that is there. */
async function filesIn(folder: string): Promise<Record<string, string>> {
  const names = await readdir(folder);
  const texts = await Promise.all(names.map((name) => readFile(join(folder, name), "utf8")));
  return Object.fromEntries(names.map((name, at) => [name, texts[at]!]));
}

/** Replaces OLD by NEW in a folder of its own, and is killed after so many steps: whether it was. */
async function killedAfter(steps: number, folder: string): Promise<boolean> {
  await replaceFolder(folder, OLD);
  disk.stepsLeft = steps;
  const killed = await replaceFolder(folder, NEW).then(
    () => false,
    () => true,
  );
  disk.stepsLeft = Infinity;
  return killed;
}

test("killed at any step, the old folder or the new one is there, and whole", async () => {
  const seen = new Set<string>();
  for (let steps = 0; ; steps++) {
    const parent = join(home, `${steps}`);
    const folder = join(parent, "folder");
    const killed = await killedAfter(steps, folder);
    await settleFolders(parent);
    const files = await filesIn(folder);
    expect([OLD, NEW], `killed after ${steps} steps`).toContainEqual(files);
    seen.add(files.a!);
    await replaceFolder(folder, NEW);
    expect(await readdir(parent)).toEqual(["folder"]);
    if (!killed) break;
  }
  expect([...seen]).toEqual(["old", "new"]);
});

test("where a folder cannot be replaced, it stays as it was, and nothing beside it", async () => {
  const folder = join(home, "folder");
  await replaceFolder(folder, OLD);
  await expect(replaceFolder(folder, { ...NEW, "no/where": "" })).rejects.toMatchObject({ code: "storage" });
  expect(await filesIn(folder)).toEqual(OLD);
  expect(await readdir(home)).toEqual(["folder"]);
});
