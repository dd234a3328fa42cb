import { spawnSync } from "node:child_process";
import { mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import type { FileHandle } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { afterEach, beforeEach, expect, test, vi } from "vitest";
import { writeAll } from "../src/write.ts";

/**
 * What is done to the disk, in order; `after` sees the folder as a process killed right then leaves it, and
 * what `before` throws the disk says.
 */
const disk = vi.hoisted(() => ({ done: [] as string[], after: () => {}, before: () => {} }));
vi.mock("node:fs/promises", async (original) => {
  const real = await original<typeof import("node:fs/promises")>();
  const seen = async <T>(what: string, act: () => Promise<T>) => {
    disk.before();
    const given = await act();
    disk.done.push(what);
    disk.after();
    return given;
  };
  return {
    ...real,
    rename: (from: string, to: string) => seen("move", () => real.rename(from, to)),
    link: (from: string, to: string) => seen("move", () => real.link(from, to)),
    rm: (path: string, how: object) => seen("remove", () => real.rm(path, how)),
    open: async (path: string, flags?: string, mode?: number) => {
      const handle: FileHandle = await real.open(path, flags, mode);
      const sync = handle.sync.bind(handle);
      handle.sync = () => seen(flags === "wx" ? "sync" : "sync folder", sync);
      return handle;
    },
  };
});

let folder: string;
const at = (...path: string[]) => join(folder, ...path);
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), "tutti-write-"));
});
afterEach(() => {
  disk.after = () => {};
  disk.before = () => {};
  rmSync(folder, { recursive: true, force: true });
});

const NAMES = ["manifest", "adapter", "sub/weights"];
const release = (text: string) => NAMES.map((name) => [at(name), text] as const);
const sealed = { force: true, seal: "" };
const held = (name: string) => {
  try {
    return readFileSync(at(name), "utf8");
  } catch {
    return null;
  }
};

test("whenever it is killed, a file that vouches for others stands beside those it vouches for", async () => {
  const states = new Set<string>();
  disk.after = () => {
    const [manifest, ...others] = NAMES.map(held);
    states.add(`${manifest}`);
    if (manifest !== null) expect(others).toEqual([manifest, manifest]);
  };
  await writeAll(release("one"), { ...sealed, seal: at("manifest") });
  await writeAll(release("two"), { ...sealed, seal: at("manifest") });
  expect([...states]).toEqual(["null", "one", "two"].filter((state) => states.has(state)));
  expect(states).toEqual(new Set(["null", "one", "two"]));
  expect(readdirSync(folder).sort()).toEqual(["adapter", "manifest", "sub"]);
});

test("so too while a disk that fails once, wherever, has it put back what was there", async () => {
  const ends = new Set<string>();
  for (let failsAt = 0; failsAt < 30; failsAt++) {
    await writeAll(release("one"), { ...sealed, seal: at("manifest") });
    let count = 0;
    disk.before = () => {
      if (count++ === failsAt) throw new Error("EIO");
    };
    disk.after = () => {
      const [manifest, ...others] = NAMES.map(held);
      if (manifest !== null) expect(others, `at ${failsAt}`).toEqual([manifest, manifest]);
    };
    const end = await writeAll(release("two"), { ...sealed, seal: at("manifest") }).then(
      () => "two",
      () => "one",
    );
    [disk.before, disk.after] = [() => {}, () => {}];
    ends.add(end);
    expect(NAMES.map(held), `at ${failsAt}`).toEqual([end, end, end]);
  }
  expect(ends).toEqual(new Set(["one", "two"]));
});

test("all are synced before the first is moved, and their folders before the one that vouches", async () => {
  await writeAll(release("one"), { ...sealed, seal: at("manifest") });
  disk.done.length = 0;
  await writeAll(release("two"), { ...sealed, seal: at("manifest") });
  const moved = [...["sync", "sync", "sync"], "move", "sync folder", ...["move", "move", "move", "move"]];
  const last = ["sync folder", "sync folder", "move", "sync folder"];
  expect(disk.done.filter((what) => what !== "remove")).toEqual([...moved, ...last]);
});

test("where one cannot be placed, the one that vouches is put back", async () => {
  await writeAll(release("one"), { ...sealed, seal: at("manifest") });
  const late = (async function* () {
    rmSync(at("adapter"));
    mkdirSync(at("adapter"));
    yield "two";
  })();
  const files = [[at("manifest"), "two"] as const, [at("adapter"), late as never] as const];
  await expect(writeAll(files, { ...sealed, seal: at("manifest") })).rejects.toMatchObject({
    code: "conflict",
  });
  expect([held("manifest"), readdirSync(folder).sort()]).toEqual(["one", ["adapter", "manifest", "sub"]]);
});

test("what a killed call left is removed by the next, in its own folders alone", async () => {
  const left = [".0123456789abcdef.new", ".fedcba9876543210.old"];
  for (const name of [...left, ".mine.new"]) writeFileSync(at(name), "");
  await writeAll(release("one"), { ...sealed, seal: at("manifest") });
  expect(readdirSync(folder).sort()).toEqual([".mine.new", "adapter", "manifest", "sub"]);
  writeFileSync(at(left[0]!), "");
  await writeAll([[at("other"), "new"]]);
  expect(readdirSync(folder)).toContain(left[0]);
});

test("told to stop while it writes, it writes all and then stops", () => {
  const child = fileURLToPath(new URL("write-child.ts", import.meta.url));
  const { signal, stderr } = spawnSync(process.execPath, ["--import", "tsx", child, folder]);
  expect([signal, `${stderr}`]).toEqual(["SIGTERM", ""]);
  expect([held("a"), held("b"), readdirSync(folder).sort()]).toEqual(["new", "new", ["a", "b"]]);
});
