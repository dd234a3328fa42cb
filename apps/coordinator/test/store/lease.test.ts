import { sql } from "kysely";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { SKIP_POSTGRES } from "../../../../claims/support/postgres/binaries.ts";
import { sharedCluster } from "../../../../claims/support/postgres/shared.ts";
import type { Engine } from "../../src/store/engine.ts";
import { readLease, releaseLease, renewLease, takeLease } from "../../src/store/lease.ts";
import { openPostgres } from "../../src/store/postgres.ts";
import { storeOf } from "../../src/store/store.ts";
import { aRun, BENCHES, bytes, lead, type Place } from "./bench.ts";

const LONG_MS = 3_600_000;
const claimant = (holder: string, leaseMs = LONG_MS) => ({ holder, address: `${holder}:1`, leaseMs });

describe.each(BENCHES)("the lease on $name", ({ fresh }) => {
  let place: Place;
  let engine: Engine;
  beforeEach(async () => {
    place = await fresh();
    engine = await place.open();
  });
  afterEach(async () => {
    await engine.close();
    await place.remove();
  });

  test("is free at first, then its holder's until it is over or released; epochs only grow", async () => {
    expect(await readLease(engine)).toMatchObject({ epoch: 0, holder: "" });
    expect(await takeLease(engine, claimant("a"))).toBe(1);
    expect(await takeLease(engine, claimant("b"))).toBeNull();
    const held = await readLease(engine);
    expect(held).toMatchObject({ epoch: 1, holder: "a", address: "a:1", renewals: 0 });
    expect(held.leftMs).toBeGreaterThan(LONG_MS - 60_000);
    await releaseLease(engine, 1);
    expect(await takeLease(engine, claimant("b", 0))).toBe(2);
    expect(await takeLease(engine, claimant("c"))).toBe(3);
  });

  test("is renewed by its holder alone, who may also renew it late if nobody took it", async () => {
    await takeLease(engine, claimant("a", 0));
    expect(await renewLease(engine, { epoch: 1, leaseMs: LONG_MS })).toBe(true);
    expect(await takeLease(engine, claimant("b"))).toBeNull();
    await releaseLease(engine, 1);
    await takeLease(engine, claimant("b"));
    expect(await renewLease(engine, { epoch: 1, leaseMs: LONG_MS })).toBe(false);
    await releaseLease(engine, 1);
    expect(await readLease(engine)).toMatchObject({ epoch: 2, holder: "b", renewals: 0 });
    expect((await readLease(engine)).leftMs).toBeGreaterThan(0);
  });

  test("that does not move can be taken, one that moved meanwhile cannot", async () => {
    await takeLease(engine, claimant("a"));
    const seen = await readLease(engine);
    await renewLease(engine, { epoch: 1, leaseMs: LONG_MS });
    expect(await takeLease(engine, { ...claimant("b"), still: seen })).toBeNull();
    expect(await takeLease(engine, { ...claimant("b"), still: await readLease(engine) })).toBe(2);
    expect(await takeLease(engine, { ...claimant("c"), still: seen })).toBeNull();
  });

  test("says that its holder left the database, where the database can tell", async () => {
    // The older form of a name, of which nobody can tell.
    await takeLease(engine, claimant("host 17 0a0b0c"));
    expect((await readLease(engine)).left).toBe(false);
    if (engine.session === "") return;
    await releaseLease(engine, 1);
    const other = await place.open();
    await takeLease(other, claimant(`host 17 ${other.session}`));
    const seen = await readLease(engine);
    expect(seen.left).toBe(false);
    // The holder's connection breaks, and it has another.
    const end = sql`select pg_terminate_backend(pid) from pg_stat_activity
      where application_name = ${other.session}`;
    await end.execute(engine.db);
    expect(await renewLease(other, { epoch: 2, leaseMs: LONG_MS }).catch(() => renewed(other))).toBe(true);
    expect((await readLease(engine)).left).toBe(false);
    expect(await left(engine, `watcher_${other.session.slice(-12)}`)).toBe(false);
    await other.close();
    while (!(await readLease(engine)).left) await new Promise((resolve) => setTimeout(resolve, 5));
    expect(await takeLease(engine, { ...claimant("b"), still: seen })).toBeNull();
    expect(await takeLease(engine, { ...claimant("b"), still: await readLease(engine) })).toBe(3);
  });

  const renewed = (by: Engine) => renewLease(by, { epoch: 2, leaseMs: LONG_MS });

  /** What a role sees that is no member of the holder's. */
  async function left(engine: Engine, role: string): Promise<boolean> {
    let seen: boolean | undefined;
    const looking = engine.db.transaction().execute(async (tx) => {
      await sql`create role ${sql.id(role)}`.execute(tx);
      await sql`grant select on lease to ${sql.id(role)}`.execute(tx);
      await sql`set local role ${sql.id(role)}`.execute(tx);
      seen = (await tx.selectFrom("lease").select(engine.holderLeft.as("left")).executeTakeFirstOrThrow())
        .left;
      throw new Error("nothing of it stays");
    });
    await expect(looking).rejects.toThrow("nothing of it stays");
    return seen!;
  }

  test("that many ask for at once goes to one of them", async () => {
    const asking = ["a", "b", "c", "d", "e"].map((holder) => takeLease(engine, claimant(holder)));
    expect((await Promise.all(asking)).filter((epoch) => epoch !== null)).toEqual([1]);
  });

  test("once it passed on, every write of before is refused, and nothing is written", async () => {
    const old = await lead(engine);
    await old.addRun(aRun);
    await old.addDevice({ name: "w", serial: bytes(1), certificate: bytes(2) });
    const now = await lead(engine);
    await now.commit("r1", { append: [{ seq: 0, entry: bytes(1) }] });
    const refusal = { code: "unavailable", what: "lease", detail: { expected: "epoch 1", got: "2" } };
    const writes = [
      () => old.commit("r1", { append: [{ seq: 1, entry: bytes(2) }] }),
      () => old.commit("r1", { clearJournal: true, header: bytes(9), state: "failed" }),
      () => old.addRun({ ...aRun, run: "r2" }),
      () => old.addDevice({ name: "x", serial: bytes(2), certificate: bytes(3) }),
      () => old.trust.revoke("w", null),
      () => old.forgetRows("r1", { releases: 1 }),
      () => old.forgetEntries(0),
      () => old.removeFile("r1", { sha256: "a", remove: () => expect.fail("it was removed") }),
      () => old.journal("r1"),
    ];
    for (const write of writes) await expect(write()).rejects.toMatchObject(refusal);
    expect(await now.journal("r1")).toEqual({ entries: [bytes(1)], sums: [] });
    expect(await now.run("r1")).toEqual(aRun);
    expect(await now.runs()).toHaveLength(1);
    expect(await now.devices()).toEqual([{ name: "w", certificate: bytes(2), revoked: false }]);
  });

  const writtenTo = ({ db }: Engine) =>
    db.selectFrom("journal").select(["seq", "epoch"]).orderBy("seq").execute();

  test("who led in which epoch stays known, and which epoch wrote what", async () => {
    const one = await lead(engine);
    await one.addRun(aRun);
    await one.commit("r1", { append: [{ seq: 0, entry: bytes(1) }] });
    const two = await lead(engine);
    const release = { version: 0, digest: "d", envelope: bytes(8) };
    await two.commit("r1", { append: [{ seq: 1, entry: bytes(2) }], release });
    const epochs = await engine.db
      .selectFrom("epochs")
      .select(["epoch", "holder"])
      .orderBy("epoch")
      .execute();
    expect(epochs).toEqual([1, 2].map((epoch) => ({ epoch, holder: "test" })));
    expect(await writtenTo(engine)).toEqual([1, 2].map((epoch) => ({ seq: epoch - 1, epoch })));
    expect(await engine.db.selectFrom("releases").select("epoch").execute()).toEqual([{ epoch: 2 }]);
  });

  test("every commit counts in its own epoch or not at all, whenever the lease passes on", async () => {
    let store = await lead(engine);
    await store.addRun(aRun);
    const acknowledged: { seq: number; epoch: number }[] = [];
    for (let round = 0; round < 5; round++) {
      const from = (await store.journal("r1")).entries.length;
      // In turn, as a driver writes; whichever are refused must not be there.
      const writing = (async (held) => {
        for (let seq = from; seq < from + 6; seq++) {
          await held.commit("r1", { append: [{ seq, entry: bytes(seq, held.epoch) }] });
          acknowledged.push({ seq, epoch: held.epoch });
        }
      })(store).catch((fault) => fault);
      for (let turn = 0; turn < round * 3; turn++) await new Promise((resolve) => setImmediate(resolve));
      store = await lead(engine);
      const met = await writing;
      if (met !== undefined) expect(met).toMatchObject({ code: "unavailable", what: "lease" });
    }
    const rows = await writtenTo(engine);
    for (const one of acknowledged) expect(rows).toContainEqual(one);
    const epochs = rows.map(({ epoch }) => epoch);
    expect(epochs).toEqual([...epochs].sort((a, b) => a - b));
    expect(rows.map(({ seq }) => seq)).toEqual(rows.map((_, at) => at));
  });

  test("it passes on only when a file is removed that was being removed", async () => {
    const old = await lead(engine);
    await old.addRun(aRun);
    const told: string[] = [];
    let taking: Promise<unknown> = Promise.resolve();
    const remove = async () => {
      taking = lead(engine).then(() => told.push("taken"));
      while (engine.locksRows && told.length === 0 && !(await isWaited()));
      told.push("removed");
    };
    await old.removeFile("r1", { sha256: "a", remove });
    await taking;
    expect(told).toEqual(["removed", "taken"]);
    await expect(old.removeFile("r1", { sha256: "a", remove })).rejects.toMatchObject({ what: "lease" });
    expect(told).toHaveLength(2);
  });

  /** Whether a transaction waits for another to end. */
  async function isWaited(): Promise<boolean> {
    const { rows } = await sql`select 1 from pg_locks where not granted`.execute(engine.db);
    return rows.length > 0;
  }

  test("a write begun before the lease passed on is whole before the next leader reads", async () => {
    const old = await lead(engine);
    await old.addRun(aRun);
    const big = new Uint8Array(200_000).fill(7);
    const entries = Array.from({ length: 20 }, (_, seq) => ({ seq, entry: big }));
    const writing = old.commit("r1", { append: entries }).then(
      () => "durable",
      () => "refused",
    );
    const next = await takeLease(engine, { ...claimant("next"), still: await readLease(engine) });
    const { entries: read } = await storeOf({ engine, epoch: next! }).journal("r1");
    expect([0, 20]).toContain(read.length);
    expect(await writing).toBe(read.length === 20 ? "durable" : "refused");
  });
});

describe.skipIf(SKIP_POSTGRES)("whether a holder left PostgreSQL", () => {
  test("is not asked where connections have another name, or their list may not be read", async () => {
    const url = await (await sharedCluster()).database();
    const open = async (named: string) => {
      const engine = await openPostgres({ url: named });
      await takeLease(engine, claimant(`host 17 ${engine.session || "tutti lease 0a0b0c"}`, 0));
      const { left } = await readLease(engine);
      return { engine, left };
    };
    const plain = await open(url);
    expect(plain.engine.session).toMatch(/^tutti lease [0-9a-f]{12}$/);
    const other = await open(`${url}${url.includes("?") ? "&" : "?"}application_name=other`);
    expect([other.engine.session, other.left]).toEqual(["", false]);
    // Nor is what somebody else calls a connection a pattern.
    const odd = await open(`${url}${url.includes("?") ? "&" : "?"}application_name=tutti%20lease%20%5C`);
    await takeLease(plain.engine, claimant("host 17 tutti lease 0a0b0c", 0));
    expect((await readLease(plain.engine)).left).toBe(true);
    for (const { engine } of [plain, other, odd]) await engine.close();
  });
});
