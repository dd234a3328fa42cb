import { spawn } from "node:child_process";
import { mkdir, mkdtemp, readdir, rename, rm, symlink, truncate, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import type { Fault } from "@tutti/foundation/fault";
import { seededRandom } from "@tutti/foundation/random";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { csvData, readUnder } from "../../src/node/csv.ts";
import { openLedger } from "../../src/node/ledger.ts";
import { openFolderStore } from "../../src/node/store.ts";
import { MAX_DOCUMENT, memoryStore, type Store } from "../../src/store.ts";
import { planOf } from "../fixture.ts";
import { releaseNumber } from "./release.ts";

let home: string;
beforeAll(async () => {
  home = await mkdtemp(join(tmpdir(), "tutti-store-"));
});
afterAll(() => rm(home, { recursive: true, force: true }));

/** Lets a child activate releases and kills it `afterMs` later; the last version it said was in. */
async function killedWriter(folder: string, from: number, afterMs: number): Promise<number> {
  const script = fileURLToPath(new URL("killed.ts", import.meta.url));
  const child = spawn(process.execPath, ["--import", "tsx", script, folder, `${from}`], {
    stdio: ["ignore", "pipe", "inherit"],
  });
  let said = from;
  child.stdout.on("data", (chunk: Buffer) => {
    if (said === from) setTimeout(() => child.kill("SIGKILL"), afterMs);
    const lines = chunk.toString().trim().split("\n");
    said = Number(lines.at(-1));
  });
  await new Promise((resolve) => child.on("close", resolve));
  return said;
}

test("killed while it writes, a device has the old release or the new one, whole", {
  timeout: 120_000,
}, async () => {
  const folder = join(home, "killed");
  const random = seededRandom("kills");
  let last = 0;
  for (let kill = 0; kill < 8; kill++) {
    const said = await killedWriter(folder, last, random.below(40));
    const store = await openFolderStore(folder);
    const { current, previous } = await store.pointer();
    const held = await store.release(current ?? "");
    // What was said to be in is in; at most one more had begun.
    expect([said, said + 1], `kill ${kill}`).toContain(held?.version);
    expect(held).toEqual(releaseNumber(held!.version));
    // The release to go back to is whole as well.
    if (held!.version > 1)
      expect(await store.release(previous ?? "")).toEqual(releaseNumber(held!.version - 1));
    last = held!.version;
  }
  expect(last).toBeGreaterThan(8);
});

describe.each(["memory", "folder"])("a store in %s", (kind) => {
  let count = 0;
  const fresh = async (): Promise<Store> =>
    kind === "memory" ? memoryStore() : await openFolderStore(join(home, `store-${count++}`));

  test("downloads grow, are completed or discarded", async () => {
    const store = await fresh();
    expect(await store.partial("aa")).toEqual(new Uint8Array(0));
    await store.append("aa", Uint8Array.of(1, 2), 0);
    await store.append("aa", Uint8Array.of(3), 2);
    for (const offset of [0, 2, 4])
      await expect(store.append("aa", Uint8Array.of(4), offset)).rejects.toMatchObject({
        code: "unavailable",
      });
    expect(await store.artifact("aa")).toBeNull();
    await store.complete("aa");
    expect(await store.artifact("aa")).toEqual(Uint8Array.of(1, 2, 3));
    expect(await store.partial("aa")).toEqual(new Uint8Array(0));
    await store.append("bb", Uint8Array.of(9), 0);
    await store.discard("bb");
    await store.discard("aa");
    expect([await store.artifact("aa"), await store.partial("bb")]).toEqual([null, new Uint8Array(0)]);
  });

  test("artifacts that are not among those to keep are forgotten, whole or not", async () => {
    const store = await fresh();
    for (const name of ["aa", "bb", "cc", "dd"]) await store.append(name, Uint8Array.of(1), 0);
    for (const name of ["aa", "bb"]) await store.complete(name);
    await store.discardBut(new Set(["aa", "cc"]));
    const whole = await Promise.all(["aa", "bb"].map((name) => store.artifact(name)));
    const parts = await Promise.all(["cc", "dd"].map((name) => store.partial(name)));
    expect([whole, parts]).toEqual([
      [Uint8Array.of(1), null],
      [Uint8Array.of(1), new Uint8Array(0)],
    ]);
  });

  test("documents have names, the one put last first", async () => {
    const store = await fresh();
    expect(await store.documents()).toEqual([]);
    for (const name of ["one", "two", "three", "one"]) {
      await store.putDocument(name, "text");
      // A file's time is no finer than some milliseconds.
      await new Promise((resolve) => setTimeout(resolve, 20));
    }
    expect(await store.documents()).toEqual(["one", "three", "two"]);
  });

  test("activation and rollback move the pointer; a repeat keeps what is previous", async () => {
    const store = await fresh();
    await store.setBase("base");
    const [one, two] = [releaseNumber(1), releaseNumber(2)];
    for (const release of [one, two, two]) await store.activate(release);
    expect(await store.pointer()).toEqual({
      base: "base",
      current: two.digest,
      previous: one.digest,
      rejected: [],
    });
    await store.rollback({ reject: true });
    const back = { base: "base", current: one.digest, previous: null, rejected: [two.digest] };
    expect(await store.pointer()).toEqual(back);
    expect(await store.release(one.digest)).toEqual(one);
    await store.rollback({ reject: false });
    expect(await store.pointer()).toEqual({ ...back, current: null });
    // Nothing to go back from is nothing to reject.
    await store.rollback({ reject: true });
    expect(await store.pointer()).toEqual({ ...back, current: null });
  });

  test("going back while a release is written is not lost, nor is a base", async () => {
    const store = await fresh();
    const [one, two, three] = [releaseNumber(1), releaseNumber(2), releaseNumber(3)];
    for (const release of [one, two]) await store.activate(release);
    await Promise.all([store.activate(three), store.rollback({ reject: true }), store.setBase("base")]);
    const before = { current: three.digest, previous: one.digest, rejected: [two.digest] };
    const after = { current: two.digest, previous: null, rejected: [three.digest] };
    const pointer = await store.pointer();
    expect([before, after]).toContainEqual({ ...pointer, base: undefined });
    expect(pointer.base).toBe("base");
    expect(await store.release(pointer.current!)).not.toBeNull();
  });

  test("of releases that come at once none takes another's files away", async () => {
    const store = await fresh();
    const all = [1, 2, 3].map(releaseNumber);
    await Promise.all(all.map((release) => store.activate(release)));
    const { current, previous } = await store.pointer();
    expect([current, previous]).toEqual([all[2]!.digest, all[1]!.digest]);
    expect(await store.release(current!)).toEqual(all[2]);
    expect(await store.release(previous!)).toEqual(all[1]);
  });

  test("going back from a release that is current no more changes nothing", async () => {
    const store = await fresh();
    const [one, two] = [releaseNumber(1), releaseNumber(2)];
    for (const release of [one, two]) await store.activate(release);
    const there = await store.pointer();
    for (const from of [one.digest, null]) await store.rollback({ reject: true, from });
    expect(await store.pointer()).toEqual(there);
    await store.rollback({ reject: true, from: two.digest });
    expect(await store.pointer()).toMatchObject({ current: one.digest, rejected: [two.digest] });
  });

  test("what came in last is known after going back, and forgotten with a damaged release", async () => {
    const store = await fresh();
    const [first, second] = ["a", "b"].map((run, at) => ({ run, madeMs: at + 1 }));
    await store.activate(releaseNumber(1), first);
    await store.activate(releaseNumber(2), second);
    expect(await store.pointer()).toMatchObject({ latest: second });
    await store.rollback({ reject: true });
    expect(await store.pointer()).toMatchObject({ current: releaseNumber(1).digest, latest: second });
    await store.rollback({ reject: false });
    expect(await store.pointer()).not.toHaveProperty("latest");
  });

  test("documents are replaced as a whole", async () => {
    const store = await fresh();
    expect(await store.document("plan-x")).toBeNull();
    await store.putDocument("plan-x", "one");
    await store.putDocument("plan-x", "two");
    expect(await store.document("plan-x")).toBe("two");
  });

  test.each([
    "../current",
    "plan-../../x",
    "a/b",
    "a\\b",
    "",
    ".",
    "..",
    ".x",
    "nul\0",
    "a b",
    "x".repeat(129),
  ])("%j names no document", async (name) => {
    const store = await fresh();
    const refused = { code: "refused", what: "name of what is stored" };
    await expect(store.document(name)).rejects.toMatchObject(refused);
    await expect(store.putDocument(name, "text")).rejects.toMatchObject(refused);
  });

  test("a document has an end", async () => {
    const store = await fresh();
    const text = "x".repeat(MAX_DOCUMENT + 1);
    await expect(store.putDocument("long", text)).rejects.toMatchObject({ code: "refused" });
    expect(await store.document("long")).toBeNull();
  });
});

test("a pointer that could not be read again is not written", async () => {
  const store = await openFolderStore(join(home, "pointer"));
  await store.activate(releaseNumber(1), { run: "a", madeMs: 0 });
  const there = await store.pointer();
  for (const madeMs of [Number.NaN, -1000, 0.5])
    await expect(store.activate(releaseNumber(2), { run: "a", madeMs })).rejects.toMatchObject({
      code: "storage",
    });
  expect(await store.pointer()).toEqual(there);
  expect(await store.release(there.current!)).toEqual(releaseNumber(1));
});

test("a release of any version that a manifest may have is read again", async () => {
  const store = await openFolderStore(join(home, "versions"));
  const far = { ...releaseNumber(1), version: Number.MAX_SAFE_INTEGER };
  await store.activate(far);
  expect(await store.release(far.digest)).toEqual(far);
});

test("a file too long is no document, and no artifact's name leads elsewhere", async () => {
  const folder = join(home, "paths");
  const store = await openFolderStore(folder);
  await store.putDocument("plan-x", "text");
  await truncate(join(folder, "documents", "plan-x.json"), 3 * MAX_DOCUMENT + 1);
  await expect(store.document("plan-x")).rejects.toMatchObject({ code: "storage" });
  for (const call of [store.artifact, store.partial, store.discard, store.complete, store.release])
    await expect((async () => await call("../current"))()).rejects.toMatchObject({ code: "refused" });
});

test("a release that a kill left aside is back when the store is opened, or goes", async () => {
  const folder = join(home, "aside");
  const at = (name: string) => join(folder, "releases", name);
  const one = releaseNumber(1);
  await (await openFolderStore(folder)).activate(one);
  await rename(at(one.digest), at(`${one.digest}.old`));
  expect(await (await openFolderStore(folder)).release(one.digest)).toEqual(one);
  await mkdir(at(`${one.digest}.old`));
  expect(await (await openFolderStore(folder)).release(one.digest)).toEqual(one);
  expect(await readdir(at(""))).toEqual([one.digest]);
});

test("a release with a byte changed, or cut short, is not served", async () => {
  const folder = join(home, "damaged");
  const store = await openFolderStore(folder);
  for (const version of [1, 2, 3]) await store.activate(releaseNumber(version));
  // Older than previous is gone.
  expect(await readdir(join(folder, "releases"))).toHaveLength(2);
  const { digest } = releaseNumber(3);
  await truncate(join(folder, "releases", digest, "model.onnx"), 299_999);
  expect(await store.release(digest)).toBeNull();
  await store.activate(releaseNumber(3));
  expect(await store.release(digest)).toEqual(releaseNumber(3));
  await writeFile(join(folder, "releases", digest, "adapter.safetensors"), new Uint8Array(20_000));
  expect(await store.release(digest)).toBeNull();
});

test("the ledger of opened rounds survives, a torn line included", async () => {
  const file = join(home, "rounds.log");
  const ledger = openLedger(file);
  ledger.add("run", 0);
  await writeFile(file, "\nrun 1\nrun 2", { flag: "a" });
  const again = openLedger(file);
  again.add("run", 3);
  const last = openLedger(file);
  expect([0, 1, 2, 3, 4].map((round) => last.has("run", round))).toEqual([true, true, true, true, false]);
  expect(last.has("other", 0)).toBe(false);
});

test("a data function reads the plan's columns for the model's one float input", async () => {
  const folder = join(home, "site");
  await mkdir(folder);
  await writeFile(join(folder, "birds.csv"), "u,v,kind\n1,2,b\n3,4,a\n5,,a\n7,8,b\n");
  const data = { csv: "birds.csv", columns: ["u", "v"], label: "kind", classes: ["a", "b"] };
  const told: number[] = [];
  const read = csvData({ onRead: ({ dropped }) => told.push(dropped) });
  const about = { device: "d", inputs: [{ name: "x", dtype: "float32" as const, shape: ["batch", 2] }] };
  const rows = await read(planOf({ data, evaluation: { holdout: 0.34 } }), folder, about);
  expect([rows.train.count, rows.heldOut.count, told]).toEqual([2, 1, [1]]);
  expect([...(await rows.train.take([0])).keys()]).toEqual(["x", "label"]);
  await expect(read(planOf(), folder, about)).rejects.toThrow(/field data: expected columns/);
  const two = { ...about, inputs: [...about.inputs, { ...about.inputs[0]!, name: "z" }] };
  await expect(read(planOf({ data }), folder, two)).rejects.toThrow(/one float input, got x, z/);
});

test("whether there is anything outside of the data folder cannot be told", async () => {
  const folder = join(home, "asked");
  const other = join(home, "secret");
  await mkdir(folder);
  await mkdir(other);
  await writeFile(join(other, "is.csv"), "a\n1");
  await symlink(other, join(folder, "there"));
  await symlink(join(home, "nowhere"), join(folder, "nowhere"));
  await symlink(join(other, "is.csv"), join(folder, "is.csv"));
  await symlink("../secret/not.csv", join(folder, "not.csv"));
  const said = async (file: string) => {
    const fault = (await readUnder(folder, file).catch((error) => error)) as Fault;
    return { code: fault.code, text: fault.message.replace(fault.what, "") };
  };
  const outside = { code: "refused", text: ": expected a file inside the data folder, got one outside" };
  for (const [is, not] of [
    ["../secret/is.csv", "../secret/not.csv"],
    [join(other, "is.csv"), join(other, "not.csv")],
    ["..\\secret\\is.csv", "..\\secret\\not.csv"],
    ["there/is.csv", "there/not.csv"],
    ["there/is.csv", "nowhere/is.csv"],
    ["is.csv", "not.csv"],
  ] as const)
    expect([await said(is), await said(not)], is).toEqual([outside, outside]);
});

test("rows are read from the data folder alone, links followed", async () => {
  const folder = join(home, "rows");
  await mkdir(join(folder, "sub"), { recursive: true });
  await writeFile(join(folder, "sub", "in.csv"), "a\n1");
  await writeFile(join(home, "rows-of-others.csv"), "a\n2");
  await symlink(join(home, "rows-of-others.csv"), join(folder, "link.csv"));
  expect(await readUnder(folder, "sub/in.csv")).toHaveLength(3);
  for (const file of ["../rows-of-others.csv", "link.csv", join(home, "rows-of-others.csv"), "."]) {
    await expect(readUnder(folder, file), file).rejects.toMatchObject({ code: "refused" });
  }
  await symlink("sub/in.csv", join(folder, "inner.csv"));
  await symlink("../rows/sub", join(folder, "out-and-back"));
  await symlink(join(folder, "sub"), join(folder, "absolute"));
  await symlink("none.csv", join(folder, "dangling.csv"));
  await symlink("loop.csv", join(folder, "loop.csv"));
  for (const file of ["inner.csv", "./sub//in.csv", "absolute/in.csv"])
    expect(await readUnder(folder, file), file).toHaveLength(3);
  // The folder itself may be named through a link, and links may name it so.
  const alias = join(home, "rows-by-another-name");
  await symlink(folder, alias);
  await symlink(join(alias, "sub/in.csv"), join(folder, "aliased.csv"));
  expect(await readUnder(alias, "aliased.csv")).toHaveLength(3);
  for (const file of ["loop.csv", "out-and-back/in.csv"])
    await expect(readUnder(folder, file), file).rejects.toMatchObject({ code: "refused" });
  for (const file of ["dangling.csv", "sub/in.csv/x"])
    await expect(readUnder(folder, file), file).rejects.toMatchObject({ code: "not-found" });
  await expect(readUnder(folder, "none.csv")).rejects.toMatchObject({ code: "not-found" });
  await expect(readUnder("", "in.csv")).rejects.toThrow(/data folder: expected one, got none/);
});
