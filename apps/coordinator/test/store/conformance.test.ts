import { equalBytes } from "@tutti/foundation/bytes";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import type { Kept, Store } from "../../src/store/store.ts";
import { aRun, BENCHES, bytes, lead, type Place } from "./bench.ts";

/** One suite for every engine: what a coordinator relies on must not depend on which it has. */
const device = { name: "ward-3", serial: bytes(9, 9), certificate: bytes(5, 6, 7) };
const asking = (request: Uint8Array, isUseful = () => true) => ({
  name: "ward-3",
  request,
  isUseful,
  isSame: (kept: Uint8Array) => equalBytes(kept, request),
});

describe.each(BENCHES)("the store on $name", ({ fresh }) => {
  let place: Place;
  let store: Store;
  let wallMs = 1000;
  const open = async () => lead(await place.open(), () => wallMs);
  beforeEach(async () => {
    wallMs = 1000;
    place = await fresh();
    store = await open();
  });
  afterEach(async () => {
    await store.close().catch(() => {});
    await place.remove();
  });

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
    expect(await store.trust.revoke("ward-3", null)).toBe(true);
    expect(await store.trust.revoke("nobody", null)).toBe(false);
    await store.addDevice(device);
    expect((await store.devices()).map(({ name, revoked }) => [name, revoked])).toEqual([["ward-3", true]]);
  });

  test("who took part: a round counts once, whatever its attempts; being invited is remembered", async () => {
    await store.addRun({ ...aRun, run: "r" });
    const took = (round: number, gave: readonly string[], wallMs = 7) =>
      store.commit("r", { took: { round, wallMs, invited: ["a", "b", "c"], gave } });
    await took(0, ["a", "b"], 1_700_000_000_000);
    await took(0, ["b"]);
    await took(1, ["b"], 1_700_000_000_900);
    await reopen();
    expect(await store.participations("r")).toEqual([
      { device: "a", rounds: 1, lastRound: 0, lastMs: 1_700_000_000_000 },
      { device: "b", rounds: 2, lastRound: 1, lastMs: 1_700_000_000_900 },
      { device: "c", rounds: 0, lastRound: -1, lastMs: 0 },
    ]);
    expect(await store.participations("other")).toEqual([]);
    const many = Array.from({ length: 1000 }, (_, at) => `d${at}`);
    await store.commit("r", { took: { round: 2, wallMs: 9, invited: many, gave: many } });
    expect(await store.participations("r")).toHaveLength(1003);
  });

  test("a site has as many devices as it may, and one that is revoked makes room", async () => {
    const at = (name: string, serial: number) =>
      store.addDevice({
        name,
        serial: bytes(serial),
        certificate: bytes(serial),
        site: "north",
        siteLimit: 2,
      });
    await at("a", 1);
    await at("b", 2);
    await at("a", 1);
    await expect(at("c", 3)).rejects.toMatchObject({ code: "refused", what: "device c" });
    await store.addDevice({
      name: "s",
      serial: bytes(9),
      certificate: bytes(9),
      site: "south",
      siteLimit: 1,
    });
    await store.addDevice({ name: "t", serial: bytes(8), certificate: bytes(8) });
    await store.trust.revoke("a", null);
    await at("c", 3);
    await expect(at("d", 4)).rejects.toMatchObject({ code: "refused" });
  });

  test("a renewal is asked for, granted, and takes the place of the certificate before", async () => {
    await store.addDevice(device);
    const ask = (request: Uint8Array, isUseful = () => true) =>
      store.trust.askRenewal(asking(request, isUseful));
    expect(await store.trust.grantRenewal("ward-3", bytes(4))).toBe(false);
    expect(await ask(bytes(1))).toBe(null);
    expect(await ask(bytes(2))).toBe(null);
    await reopen();
    expect(await store.trust.renewals()).toEqual([bytes(2)]);
    expect((await store.trust.listed()).map(({ asks, addedMs }) => [asks, addedMs])).toEqual([[true, 1000]]);
    expect(await store.trust.grantRenewal("ward-3", bytes(4))).toBe(true);
    expect(await store.trust.renewals()).toEqual([]);
    expect(await ask(bytes(3))).toEqual(bytes(4));
    // What was granted is of no use any more: it is asked for anew.
    expect(await ask(bytes(3), () => false)).toBe(null);
    expect(await store.trust.renewals()).toEqual([bytes(3)]);
    const renewed = { serial: bytes(7), certificate: bytes(7, 7) };
    expect(await store.trust.renew("ward-3", renewed)).toBe(true);
    expect(await store.trust.renewals()).toEqual([]);
    await reopen();
    expect(await store.device("ward-3")).toMatchObject({ certificate: bytes(7, 7), revoked: false });
    expect(await store.trust.renew("nobody", renewed)).toBe(false);
  });

  test("a renewal that is asked for again is only read: no other write waits for it", async () => {
    await store.addDevice(device);
    expect(await store.trust.askRenewal(asking(bytes(1)))).toBe(null);
    await store.close();
    const engine = await place.open();
    const old = await lead(engine);
    // What the leader before writes is refused.
    store = await lead(engine);
    expect(await old.trust.askRenewal(asking(bytes(1)))).toBe(null);
    await expect(old.trust.askRenewal(asking(bytes(2)))).rejects.toMatchObject({ code: "unavailable" });
    await store.trust.grantRenewal("ward-3", bytes(4));
    expect(await old.trust.askRenewal(asking(bytes(2)))).toEqual(bytes(4));
  });

  test("who is revoked asks for nothing any more and is not renewed", async () => {
    await store.addDevice(device);
    await store.trust.askRenewal(asking(bytes(1)));
    await store.trust.revoke("ward-3", { version: 1, envelope: bytes(1) });
    expect(await store.trust.renewals()).toEqual([]);
    expect(await store.trust.renew("ward-3", { serial: bytes(7), certificate: bytes(7) })).toBe(false);
  });

  test("a statement goes on from the one before; revoking and its list are one change", async () => {
    await store.addDevice(device);
    expect(await store.trust.statement("revocations")).toBeUndefined();
    const second = { version: 2, envelope: bytes(2) };
    await store.trust.putStatement("revocations", second);
    await store.trust.putStatement("revocations", second);
    await store.trust.putStatement("tls", { version: 1, envelope: bytes(1) });
    const old = store.trust.revoke("ward-3", { version: 2, envelope: bytes(3) });
    await expect(old).rejects.toMatchObject({ code: "conflict" });
    expect(await store.device("ward-3")).toMatchObject({ revoked: false });
    expect(await store.trust.revoke("ward-3", { version: 3, envelope: bytes(3) })).toBe(true);
    await reopen();
    expect(await store.trust.statement("revocations")).toEqual({ version: 3, envelope: bytes(3) });
    expect(await store.trust.statement("tls")).toEqual({ version: 1, envelope: bytes(1) });
    expect(await store.device("ward-3")).toMatchObject({ revoked: true });
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
    const release = { version: 0, digest: "d", envelope: bytes(8) };
    await store.commit("r1", { append: [{ seq: 0, entry: bytes(1) }], release });
    const change = {
      header: bytes(7),
      state: "finished",
      sums: [{ cohort: 0, words: bytes(2) }],
      append: [{ seq: 1, entry: bytes(2) }],
      release: { ...release, digest: "e" },
    };
    await expect(store.commit("r1", change)).rejects.toMatchObject({ code: "conflict" });
    await reopen();
    expect(await store.journal("r1")).toEqual({ entries: [bytes(1)], sums: [] });
    expect(await store.run("r1")).toEqual(aRun);
    expect(await store.releases("r1")).toEqual([release]);
  });

  test.each([
    ["an empty journal", [], [3]],
    ["what is there", [0, 1], [3]],
    ["what it brings itself", [0], [1, 3]],
    ["a journal that another round emptied", "cleared", [2]],
  ] as const)("entries behind a gap after %s are refused, and nothing is written", async (_, there, come) => {
    await store.addRun(aRun);
    const entries = (seqs: readonly number[]) => ({
      append: seqs.map((seq) => ({ seq, entry: bytes(seq) })),
    });
    const held = there === "cleared" ? [] : there;
    await store.commit("r1", entries(there === "cleared" ? [0, 1] : there));
    if (there === "cleared") await store.commit("r1", { clearJournal: true });
    const behind = store.commit("r1", { ...entries(come), state: "failed" });
    await expect(behind).rejects.toMatchObject({ code: "conflict", detail: { got: "a gap" } });
    expect((await store.journal("r1")).entries).toEqual(held.map((seq) => bytes(seq)));
    expect(await store.run("r1")).toEqual(aRun);
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

  test("of concurrent commits each is whole, in whatever order", async () => {
    await store.addRun(aRun);
    const commits = Array.from({ length: 50 }, (_, at) =>
      store.commit("r1", {
        header: bytes(at),
        sums: [0, 1].map((cohort) => ({ cohort, words: bytes(at) })),
      }),
    );
    await Promise.all(commits);
    // Several connections keep no order; a driver commits one after the other, so it needs none.
    const { header } = (await store.run("r1"))!;
    const { sums } = await store.journal("r1");
    expect(sums).toEqual([0, 1].map((cohort) => ({ cohort, words: header })));
  });

  test("what comes back is a plain Uint8Array of its own, whatever the driver gives", async () => {
    const big = new Uint8Array(3_000_000).map((_, at) => at * 7);
    await store.addRun({ ...aRun, plan: big.subarray(1000, 2_000_000) });
    const { plan } = (await store.run("r1"))!;
    expect(Object.getPrototypeOf(plan)).toBe(Uint8Array.prototype);
    expect(plan.byteOffset).toBe(0);
    expect(Buffer.compare(plan, big.subarray(1000, 2_000_000))).toBe(0);
  });

  test("releases come in pages, and the newest alone", async () => {
    await store.addRun(aRun);
    expect(await store.newestRelease("r1")).toBeUndefined();
    for (let version = 0; version < 5; version++) {
      const release = { version, digest: `d${version}`, envelope: bytes(version) };
      await store.commit("r1", { release });
    }
    expect((await store.newestRelease("r1"))?.version).toBe(4);
    const versions = (await store.releases("r1", { from: 1, most: 2 })).map(({ version }) => version);
    expect(versions).toEqual([1, 2]);
  });

  test("history is kept once, in order", async () => {
    await store.addRun(aRun);
    await store.commit("r1", { history: [0, 1, 2].map((at) => ({ at, record: bytes(at) })) });
    await store.commit("r1", { history: [2, 3].map((at) => ({ at, record: bytes(at) })) });
    const records = [1, 2, 3].map((at) => ({ at, record: bytes(at) }));
    expect(await store.history("r1", { from: 1, most: 10 })).toEqual(records);
    expect(await store.history("r2", { from: 0, most: 10 })).toEqual([]);
  });

  test("old rows go, oldest first and some at a time; the newest manifest and other runs stay", async () => {
    for (const run of ["r1", "r2"]) await store.addRun({ ...aRun, run });
    const all = Array.from({ length: 250 }, (_, at) => ({ at, record: bytes(at & 255) }));
    for (const run of ["r1", "r2"]) {
      await store.commit(run, { history: all });
      for (const version of [0, 1, 2, 3])
        await store.commit(run, { release: { version, digest: `d${version}`, envelope: bytes(version) } });
    }
    const held = async (run: string) => {
      const places = (await store.history(run, { from: 0, most: 1000 })).map(({ at }) => at);
      const versions = (await store.releases(run)).map(({ version }) => version);
      return [places[0], places.length, versions.join()];
    };
    expect(await store.forgetRows("r1", {})).toBe(0);
    expect(await store.forgetRows("r1", { records: -7, releases: 4 })).toBe(0);
    expect(await store.forgetRows("r1", { records: 245 })).toBe(100);
    expect(await held("r1")).toEqual([100, 150, "0,1,2,3"]);
    expect(await store.forgetRows("r1", { records: 245, releases: 2 })).toBe(102);
    expect(await store.forgetRows("r1", { records: 245, releases: 2 })).toBe(45);
    expect(await held("r1")).toEqual([245, 5, "2,3"]);
    expect(await store.forgetRows("r1", { records: 1_000_000, releases: 0 })).toBe(6);
    expect(await store.forgetRows("r1", { records: 1_000_000, releases: 0 })).toBe(0);
    expect(await held("r1")).toEqual([undefined, 0, "3"]);
    expect((await store.newestRelease("r1"))?.version).toBe(3);
    expect(await held("r2")).toEqual([0, 250, "0,1,2,3"]);
    expect(await store.forgetRows("none", { records: 9, releases: 1 })).toBe(0);
  });

  test("files beyond what is kept, by kind; one that is made again counts from then", async () => {
    for (const run of ["r1", "r2"]) await store.addRun({ ...aRun, run });
    const file = (sha256: string, round: number, kind: "adapter" | "evidence") => ({ sha256, round, kind });
    for (const round of [1, 2, 3, 4])
      await store.commit("r1", {
        files: [file(`a${round}`, round, "adapter"), file(`e${round}`, round, "evidence")],
      });
    await store.commit("r1", { files: [file("e1", 4, "evidence")] });
    await store.commit("r2", { files: [file("e2", 1, "evidence")] });
    const beyond = (kept: Kept) => store.filesBeyond("r1", { round: 4, kept });
    expect(await beyond({})).toEqual([]);
    expect(await beyond({ evidence: 1 })).toEqual(["e2", "e3"]);
    expect(await beyond({ adapter: 3 })).toEqual(["a1"]);
    expect((await beyond({ adapter: 2, evidence: 2 })).sort()).toEqual(["a1", "a2", "e2"]);
    const gone: string[] = [];
    const remove = (run: string, sha256: string) =>
      store.removeFile(run, { sha256, remove: async () => void gone.push(sha256) });
    await remove("r1", "e2");
    await remove("r1", "e3");
    expect(gone).toEqual(["e3"]);
    await store.forgetFile("r1", "e2");
    expect(await beyond({ evidence: 1 })).toEqual(["e3"]);
    await remove("r2", "e2");
    expect(gone).toEqual(["e3", "e2"]);
  });

  test("errors of the engine are Faults that say what was done", async () => {
    await store.close();
    const code = expect.stringMatching(/^(storage|unavailable)$/);
    await expect(store.runs()).rejects.toMatchObject({ code, what: "reading runs" });
  });

  test("integrity: whole when whole", async () => {
    await store.addRun(aRun);
    expect(await store.integrity()).toBe(true);
  });
});
