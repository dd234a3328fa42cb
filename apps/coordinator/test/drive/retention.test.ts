import { createHash } from "node:crypto";
import { mkdtempSync, readdirSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { systemClock } from "@tutti/foundation/clock";
import { Fault } from "@tutti/foundation/fault";
import { sha256Hex } from "@tutti/foundation/hash";
import { signPlan } from "@tutti/release/plan";
import { firstHeader } from "@tutti/round/run";
import { PutPartSchema, RoundRecordSchema } from "@tutti/wire/admin";
import type { RunHeader } from "@tutti/wire/journal";
import { create } from "@tutti/wire/message";
import { afterEach, beforeEach, describe, expect, test, vi } from "vitest";
import { authority, random, TRUST } from "../../../../libs/round/test/cast.ts";
import { openArtifacts } from "../../src/artifacts.ts";
import { Coordinator } from "../../src/drive/coordinator.ts";
import { Retention, type Shelf } from "../../src/drive/retention.ts";
import { decodeHeader, runStoreOf } from "../../src/drive/run-store.ts";
import { onFailpoint } from "../../src/failpoint.ts";
import type { Federation } from "../../src/folder/federation.ts";
import { adminHandlers } from "../../src/handlers/admin.ts";
import { openLog } from "../../src/observe/log.ts";
import { openSqlite } from "../../src/store/open.ts";
import { type Kept, leadHere, openStore, type Store } from "../../src/store/store.ts";
import { BASE, COORDINATOR, INITIAL, OWNER, plan, TestClock } from "./house.ts";

const RUN = { name: "r", plan: new Uint8Array(1), header: new Uint8Array(), state: "running" };
const text = (bytes: string) => new TextEncoder().encode(bytes);

let folder: string;
let store: Store;
let clock: TestClock;
const artifacts = () => openArtifacts(join(folder, "artifacts"));
const left = () => readdirSync(join(folder, "artifacts")).length;

beforeEach(async () => {
  clock = new TestClock();
  folder = mkdtempSync(join(tmpdir(), "tutti-keep-"));
  store = await openStore({ file: join(folder, "tutti.sqlite") });
  for (const run of ["a", "b"]) await store.addRun({ ...RUN, run });
});
afterEach(async () => {
  onFailpoint(undefined);
  await store.close();
  rmSync(folder, { recursive: true, force: true });
});

const log = openLog({ clock: systemClock(), write: () => {} });
function retentionOf(kept: Kept, needed: readonly string[] = []): Retention {
  return new Retention({
    store,
    artifacts: artifacts(),
    kept,
    isInUse: (name) => needed.includes(name),
    clock,
    log,
  });
}

/** A round that makes an adapter and one piece of evidence, and is closed. */
async function round(shelf: Shelf, run: string, { at, says }: { at: number; says: string }): Promise<string> {
  const adapter = await shelf.artifacts.putBytes(text(`adapter ${says}`));
  await shelf.artifacts.putBytes(text(`state ${says}`));
  const header: RunHeader = { ...firstHeader({ version: at, manifest: "", adapter }), round: at };
  await runStoreOf(store, run, shelf).close(header);
  return adapter;
}

async function* once(bytes: Uint8Array): AsyncGenerator<Uint8Array> {
  yield bytes;
}

describe("files of old rounds", () => {
  test("all stay where no rule is given", async () => {
    const retention = retentionOf({});
    const shelf = retention.shelf("a");
    for (let at = 1; at <= 6; at++) await round(shelf, "a", { at, says: `${at}` });
    await retention.close();
    expect(left()).toBe(12);
  });

  test("go by kind, but for one that a run goes on from", async () => {
    const retention = retentionOf({ evidence: 1, adapter: 2 });
    const first = await round(retention.shelf("a"), "a", { at: 1, says: "1" });
    const again = retentionOf({ evidence: 1, adapter: 2 }, [first]);
    const shelf = again.shelf("a");
    for (let at = 2; at <= 6; at++) {
      await round(shelf, "a", { at, says: `${at}` });
      await again.close();
    }
    // The first, the newest two, and the newest state.
    expect(left()).toBe(4);
    expect(await artifacts().has(first)).toBe(true);
  });

  test("stay while another run has the same", async () => {
    const retention = retentionOf({ evidence: 1, adapter: 1 });
    const [a, b] = [retention.shelf("a"), retention.shelf("b")];
    const shared = await round(a, "a", { at: 1, says: "the same" });
    await round(b, "b", { at: 1, says: "the same" });
    await round(a, "a", { at: 2, says: "other" });
    await retention.close();
    expect(await artifacts().has(shared)).toBe(true);
    await round(b, "b", { at: 2, says: "another" });
    await retention.close();
    expect(await artifacts().has(shared)).toBe(false);
  });

  test("stay while a round in progress put them again", async () => {
    const retention = retentionOf({ evidence: 1, adapter: 1 });
    const [a, b] = [retention.shelf("a"), retention.shelf("b")];
    const old = await round(a, "a", { at: 1, says: "old" });
    await b.artifacts.putBytes(text("adapter old"));
    await round(a, "a", { at: 2, says: "new" });
    await retention.close();
    expect(await artifacts().has(old)).toBe(true);
  });

  test("stay for an hour when an owner puts them again, or a run claims them", async () => {
    const retention = retentionOf({ evidence: 1, adapter: 1 });
    const shelf = retention.shelf("a");
    const claimed = await round(shelf, "a", { at: 2, says: "2" });
    await retention.claim("c", [claimed]);
    await round(shelf, "a", { at: 3, says: "3" });
    await retention.close();
    expect(await artifacts().has(claimed)).toBe(true);
    const bytes = text("adapter 2");
    await retention.put(claimed, once(bytes), bytes.length);
    retention.unclaim("c");
    await round(shelf, "a", { at: 4, says: "4" });
    await retention.close();
    expect(await artifacts().has(claimed)).toBe(true);
    clock.pass(3_600_001);
    await round(shelf, "a", { at: 5, says: "5" });
    await retention.close();
    expect(await artifacts().has(claimed)).toBe(false);
  });

  test.each(["keep.removing", "keep.removed"] as const)("killed at %s, the rest goes later", async (name) => {
    const retention = retentionOf({ evidence: 1, adapter: 1 });
    const shelf = retention.shelf("a");
    await round(shelf, "a", { at: 1, says: "1" });
    onFailpoint((met) => {
      if (met === name) throw new Error("dead");
    });
    await round(shelf, "a", { at: 2, says: "2" });
    await retention.close();
    onFailpoint(undefined);
    const next = retentionOf({ evidence: 1, adapter: 1 });
    await round(next.shelf("a"), "a", { at: 3, says: "3" });
    await next.close();
    expect(left()).toBe(2);
    expect(await store.filesBeyond("a", { round: 3, kept: { evidence: 1, adapter: 1 } })).toEqual([]);
  });
});

describe("a leader that may be none any more", () => {
  const rounds = { kept: { evidence: 1, adapter: 1 }, isInUse: () => false, log };
  const bytes = text("adapter 1");
  /** The one file that the next round's end removes. */
  async function old(): Promise<string> {
    const file = await artifacts().putBytes(bytes);
    await store.commit("a", { files: [{ sha256: file, kind: "adapter", round: 1 }] });
    return file;
  }

  test("removes nothing of its successor's, though it asked before", async () => {
    const file = await old();
    await store.close();
    const engine = await openSqlite({ file: join(folder, "tutti.sqlite") });
    const one = await leadHere(engine);
    store = await leadHere(engine);
    const removeFile = vi.fn(one.removeFile);
    const retention = new Retention({
      ...rounds,
      store: { ...one, filesBeyond: store.filesBeyond, removeFile },
      artifacts: artifacts(),
      clock,
    });
    retention.shelf("a").closed({ ...firstHeader({ version: 9, manifest: "", adapter: "" }), round: 9 });
    await retention.close();
    expect(removeFile).toHaveBeenCalledTimes(1);
    expect(await artifacts().has(file)).toBe(true);
  });

  test("removes nothing once it stood still after the store's word; a later round does", async () => {
    const file = await old();
    const removeFile: Store["removeFile"] = (run, { sha256, remove }) => {
      const late = () => {
        clock.pass(1_000);
        return remove();
      };
      return store.removeFile(run, { sha256, remove: late });
    };
    const slow = { ...store, removeFile };
    const retention = new Retention({ ...rounds, store: slow, artifacts: artifacts(), clock });
    await round(retention.shelf("a"), "a", { at: 2, says: "2" });
    await retention.close();
    expect(await artifacts().has(file)).toBe(true);
    const next = retentionOf(rounds.kept);
    await round(next.shelf("a"), "a", { at: 3, says: "3" });
    await next.close();
    expect(await artifacts().has(file)).toBe(false);
  });

  test("a removal that takes long holds the lease no longer, and whoever puts the file waits", async () => {
    const file = await old();
    let free = () => {};
    const held = new Promise<void>((resolve) => {
      free = resolve;
    });
    const remove = vi.fn(() => held);
    const lets = vi.fn();
    const removeFile: Store["removeFile"] = (run, given) =>
      store.removeFile(run, { ...given, remove: () => given.remove().then(lets) });
    const put = vi.fn(artifacts().put);
    const files = { ...artifacts(), remove, put };
    const retention = new Retention({ ...rounds, store: { ...store, removeFile }, artifacts: files, clock });
    retention.shelf("a").closed({ ...firstHeader({ version: 9, manifest: "", adapter: "" }), round: 9 });
    while (remove.mock.calls.length === 0) await clock.turn();
    expect(lets).not.toHaveBeenCalled();
    expect(clock.next()).toBe(true);
    while (lets.mock.calls.length === 0) await clock.turn();
    const putting = retention.put(file, once(bytes), bytes.length);
    for (let turn = 0; turn < 20; turn++) await clock.turn();
    expect(put).not.toHaveBeenCalled();
    free();
    await Promise.all([putting, retention.close()]);
    expect(put).toHaveBeenCalledTimes(1);
    expect(clock.next()).toBe(false);
  });
});

describe("rows of old rounds", () => {
  const record = (at: number) => create(RoundRecordSchema, { round: at });
  /** Closes rounds `from` to `to` of run "a", each with a release and one more record. */
  async function rounds(retention: Retention, { from, to }: { from: number; to: number }): Promise<void> {
    const own = runStoreOf(store, "a", retention.shelf("a"));
    let header: RunHeader = firstHeader({ version: from, manifest: "", adapter: "" });
    if (from > 1) header = decodeHeader((await store.run("a"))!.header);
    for (let at = from; at <= to; at++) {
      const history = [...header.history, record(at)];
      const envelope = signPlan(plan(), OWNER);
      const release = { version: at, digest: `${at}`, envelope };
      header = await own.close({ ...header, round: at, history }, { round: null, wallMs: 0, release });
      await retention.close();
    }
  }
  const held = async () => ({
    releases: (await store.releases("a")).map(({ version }) => version),
    records: (await store.history("a", { from: 0, most: 1000 })).map(({ at }) => at),
  });

  test("go with the files of their rounds", async () => {
    await rounds(retentionOf({ evidence: 103, adapter: 2 }), { from: 1, to: 110 });
    expect(await held()).toEqual({ releases: [109, 110], records: [7, 8, 9] });
    await rounds(retentionOf({}), { from: 111, to: 112 });
    expect(await held()).toEqual({ releases: [109, 110, 111, 112], records: [7, 8, 9, 10, 11] });
  });

  test.each(["keep.rows.inside", "keep.rows.durable"] as const)(
    "killed at %s, the rest goes later",
    async (name) => {
      await rounds(retentionOf({}), { from: 1, to: 104 });
      onFailpoint((met) => {
        if (met === name) throw new Error("dead");
      });
      await rounds(retentionOf({ evidence: 1, adapter: 2 }), { from: 105, to: 105 });
      const none = name === "keep.rows.inside";
      expect((await held()).records).toEqual(none ? [0, 1, 2, 3, 4] : []);
      onFailpoint(undefined);
      await rounds(retentionOf({ evidence: 1, adapter: 2 }), { from: 106, to: 106 });
      expect((await held()).records).toEqual([]);
      expect((await held()).releases.slice(-2)).toEqual([105, 106]);
      await rounds(retentionOf({ evidence: 1, adapter: 2 }), { from: 107, to: 107 });
      expect((await held()).releases).toEqual([106, 107]);
    },
  );
});

describe("a coordinator keeps what a run needs", () => {
  const kept = { evidence: 1, adapter: 1 };
  const initial = sha256Hex(INITIAL);
  const opened: Coordinator[] = [];
  afterEach(async () => {
    for (const one of opened.splice(0)) await one.close();
  });
  function coordinator(change: Partial<Store> = {}): Coordinator {
    const config = { identity: { renewalGraceDays: 30 } };
    const federation = { authority: authority.publicKey, coordinator: COORDINATOR, owners: [], config };
    const one = new Coordinator({
      store: { ...store, ...change },
      artifacts: artifacts(),
      federation: federation as unknown as Federation,
      clock,
      random,
      verify: TRUST.verify!,
      log,
      kept,
    });
    opened.push(one);
    return one;
  }
  /** Another run's round ends, for which the adapter that a plan starts from is an old file. */
  async function tidy({ retention }: Coordinator): Promise<void> {
    const header = { ...firstHeader({ version: 9, manifest: "", adapter: "" }), round: 9 };
    retention.shelf("a").closed(header);
    await retention.close();
  }
  beforeEach(async () => {
    // Neither is to be taken up.
    for (const run of ["a", "b"]) await store.commit(run, { state: "preparing" });
    for (const bytes of [BASE, INITIAL]) await artifacts().putBytes(bytes);
    await store.commit("a", { files: [{ sha256: initial, round: 1, kind: "adapter" }] });
  });

  test("from the look whether it is there until the run is driven", async () => {
    const one: Coordinator = coordinator({
      addRun: async (run) => {
        await tidy(one);
        await store.addRun(run);
      },
    });
    await one.start();
    const run = await one.startRun(signPlan(plan(), OWNER));
    expect(one.driver(run).header.state).toBe("running");
    expect(await artifacts().has(initial)).toBe(true);
  });

  test("while storage does not give the run back", async () => {
    const before = coordinator();
    await before.start();
    const run = await before.startRun(signPlan(plan(), OWNER));
    const adapter = await artifacts().putBytes(text("another"));
    const other = plan({ name: "other", initial: { sha256: adapter, bytes: 7 } });
    await before.startRun(signPlan(other, OWNER));
    await before.close();
    const one = coordinator({
      newestRelease: async (name) => {
        if (name === run) throw new Fault("storage", "the database");
        return await store.newestRelease(name);
      },
    });
    await one.start();
    expect(() => one.find(run)).toThrow("Ask again");
    expect(one.drivers()).toHaveLength(1);
    await tidy(one);
    expect(await artifacts().has(initial)).toBe(true);
  });

  test("that its owner just put, though it was there", async () => {
    const one = coordinator();
    const owner = adminHandlers(one);
    const header = { sha256: createHash("sha256").update(INITIAL).digest(), totalBytes: INITIAL.length };
    await owner.put(
      (async function* () {
        yield create(PutPartSchema, { part: { case: "header", value: header } as never });
        yield create(PutPartSchema, { part: { case: "chunk", value: INITIAL } });
      })(),
      { caller: { name: "owner", role: "owner", labels: {} }, signal: new AbortController().signal },
    );
    await tidy(one);
    expect(await artifacts().has(initial)).toBe(true);
    clock.pass(3_600_001);
    await tidy(one);
    expect(await artifacts().has(initial)).toBe(false);
  });
});
