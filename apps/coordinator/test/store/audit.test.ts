import { Checker, checkChain } from "@tutti/audit/chain";
import { parseEntry } from "@tutti/audit/entry";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { onFailpoint } from "../../src/failpoint.ts";
import { AUDIT_OWNER } from "../../src/store/audit.ts";
import type { Store } from "../../src/store/store.ts";
import { aRun, BENCHES, bytes, lead, type Place } from "./bench.ts";

describe.each(BENCHES)("the audit log on $name", ({ fresh }) => {
  let place: Place;
  let store: Store;
  beforeEach(async () => {
    place = await fresh();
    store = await lead(await place.open(), () => 1_700_000_000_000);
  });
  afterEach(async () => {
    await store.close();
    await place.remove();
  });

  const device = (name: string, serial = 1) => ({
    name,
    serial: bytes(serial),
    certificate: bytes(9, serial),
  });
  const lines = () => store.auditLines({ from: 0, most: 1000 });
  const whats = async () => (await lines()).map((line) => parseEntry(line).what);

  test("each change brings its entry; the chain is whole and its head the store's", async () => {
    expect((await store.auditHead()).count).toBe(0);
    await store.addDevice(device("ward-7"));
    await store.trust.revoke("ward-7", null, "owner");
    expect(await store.trust.renew("ward-7", { serial: bytes(2), certificate: bytes(8) })).toBe(false);
    await store.addRun(aRun);
    const note = { actor: "owner", what: "run.started", subject: "r1" };
    await store.commit("r1", { header: bytes(1), state: "running", note });
    await store.note({ actor: "owner", what: "artifact.put", subject: "ab", detail: { bytes: 3 } });
    expect(await whats()).toEqual(["device.enrolled", "device.revoked", "run.started", "artifact.put"]);
    const head = await store.auditHead();
    expect(checkChain(await lines(), { owner: AUDIT_OWNER, remembered: [head] })).toEqual(head);
    expect(parseEntry((await lines())[1]!)).toMatchObject({ actor: "owner", subject: "ward-7" });
    expect(await store.auditLines({ from: 1, most: 2 })).toEqual((await lines()).slice(1, 3));
  });

  test("what changes nothing, or fails, leaves no entry", async () => {
    await store.addDevice(device("ward-7"));
    await store.addDevice(device("ward-7"));
    await expect(store.addDevice(device("ward-7", 2))).rejects.toMatchObject({ code: "conflict" });
    expect(await store.trust.revoke("nobody", null)).toBe(false);
    await expect(store.commit("none", { note: { actor: "a", what: "b", subject: "c" } })).rejects.toThrow();
    expect(await whats()).toEqual(["device.enrolled"]);
  });

  const put = async (count: number) => {
    for (let at = 0; at < count; at++)
      await store.note({ actor: "owner", what: "artifact.put", subject: "a" });
  };
  const check = async () => {
    const checker = new Checker(AUDIT_OWNER, [await store.auditHead()]);
    for (const line of await lines()) checker.take(line);
    checker.end();
    return [checker.begins.count, checker.head.count];
  };

  test("old entries go by the hundred, and an entry says so", async () => {
    expect(await store.forgetEntries(100)).toBe(0);
    await put(199);
    expect(await store.forgetEntries(100)).toBe(0);
    expect(await check()).toEqual([0, 199]);
    await put(1);
    expect(await store.forgetEntries(100)).toBe(100);
    expect(await check()).toEqual([100, 201]);
    const last = parseEntry((await lines()).at(-1)!);
    expect(last).toMatchObject({ what: "audit.removed", detail: { from: 0, to: 100, stay: 100 } });
    await store.close();
    store = await lead(await place.open(), () => 1_700_000_000_000);
    expect(await store.forgetEntries(100)).toBe(0);
    await put(750);
    const went: number[] = [];
    do went.push(await store.forgetEntries(100));
    while (went.at(-1)! > 0);
    expect(went).toEqual([200, 200, 200, 154, 0]);
    expect(await check()).toEqual([854, 955]);
  });

  test("at once by two, and between notes: one chain", async () => {
    await put(420);
    await Promise.all([store.forgetEntries(100), put(5), store.forgetEntries(100), put(5)]);
    const [begins] = await check();
    expect(begins).toBeGreaterThanOrEqual(320);
  });

  test("killed before it is durable nothing is gone, after it all is", async () => {
    await put(200);
    for (const [name, begins] of [
      ["keep.entries.inside", 0],
      ["keep.entries.durable", 100],
    ] as const) {
      onFailpoint((met) => {
        if (met === name) throw new Error("dead");
      });
      await expect(store.forgetEntries(100)).rejects.toThrow();
      onFailpoint(undefined);
      expect((await check())[0]).toBe(begins);
    }
  });

  test("a log that somebody else shortened is left as it is", async () => {
    await put(300);
    const engine = await place.open().catch(() => null);
    // A second one on a SQLite file is refused.
    if (engine === null) return;
    await engine.db.deleteFrom("audit").where("seq", "=", 40).execute();
    const met = store.forgetEntries(100);
    await expect(met).rejects.toMatchObject({ code: "storage", detail: { got: "199 of them" } });
    expect(await lines()).toHaveLength(299);
    await engine.close();
  });

  test("many at once make one chain", async () => {
    const runs = Array.from({ length: 6 }, (_, at) => `r${at}`);
    for (const run of runs) await store.addRun({ ...aRun, run });
    const notes = runs.flatMap((run) => [0, 1, 2].map((time) => ({ run, time })));
    await Promise.all(
      notes.map(({ run, time }) =>
        store.commit(run, { state: "running", note: { actor: "c", what: "t", subject: `${run}/${time}` } }),
      ),
    );
    const written = await lines();
    expect(checkChain(written, { owner: AUDIT_OWNER, remembered: [await store.auditHead()] }).count).toBe(18);
    expect(new Set(written.map((line) => parseEntry(line).subject)).size).toBe(18);
  });
});
