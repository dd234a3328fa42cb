import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { NO_POSTGRES, SKIP_POSTGRES } from "../../../../claims/support/postgres/binaries.ts";
import { Cluster } from "../../../../claims/support/postgres/cluster.ts";
import { faultOf } from "../../src/store/pool.ts";
import { openPostgres, type PostgresOptions } from "../../src/store/postgres.ts";
import type { Store } from "../../src/store/store.ts";
import { aRun, bytes, lead } from "./bench.ts";

if (SKIP_POSTGRES) console.log(`PostgreSQL that fails: skipped, ${NO_POSTGRES}`);

/** docs/reliability.md, Storage: who waits for too long hears "unavailable"; nothing acknowledged is lost. */
describe.skipIf(SKIP_POSTGRES)("PostgreSQL that fails", () => {
  let cluster: Cluster;
  beforeAll(async () => {
    cluster = await Cluster.open();
  });
  afterAll(() => cluster?.close());

  async function opened(change: Partial<PostgresOptions> = {}) {
    const url = await cluster.database();
    const engine = await openPostgres({ url, ...change });
    const store = await lead(engine);
    await store.addRun(aRun);
    return { url, database: new URL(url).pathname.slice(1), engine, store };
  }

  const entry = (seq: number) => ({ append: [{ seq, entry: bytes(seq & 255, seq >> 8) }] });

  /** Appends one after another, as a driver does: after a failure it reads again, and goes on from there. */
  async function writer(store: Store, until: () => boolean) {
    const acknowledged: number[] = [];
    const faults: { code: string }[] = [];
    for (let next = 0; !until() || faults.length === 0; ) {
      try {
        await store.commit("r1", entry(next));
        acknowledged.push(next++);
      } catch (fault) {
        faults.push(fault as { code: string });
        for (;;) {
          const journal = await store.journal("r1").catch(() => null);
          if (journal) next = journal.entries.length;
          if (journal) break;
          await new Promise((resolve) => setTimeout(resolve, 20));
        }
      }
    }
    return { acknowledged, faults };
  }

  test.each(["killed", "stopped in order"])(
    "%s and started again in the midst of commits: all of them are there",
    {
      timeout: 120_000,
    },
    async (how) => {
      const { engine, store } = await opened();
      let again = false;
      const writing = writer(store, () => again);
      for (let time = 0; time < 2; time++) {
        await new Promise((resolve) => setTimeout(resolve, 150));
        await (how === "killed" ? cluster.kill() : cluster.stop());
        await cluster.start();
      }
      await new Promise((resolve) => setTimeout(resolve, 100));
      again = true;
      const { acknowledged, faults } = await writing;
      const { entries } = await store.journal("r1");
      expect(acknowledged.length).toBeGreaterThan(0);
      expect(faults.map(({ code }) => code)).toEqual(faults.map(() => "unavailable"));
      for (const seq of acknowledged) expect(entries[seq]).toEqual(bytes(seq & 255, seq >> 8));
      // What was not acknowledged may be there; nothing is there twice, and nothing else.
      expect(entries.map((it) => it[0]! + 256 * it[1]!)).toEqual(entries.map((_, at) => at));
      expect(await store.integrity()).toBe(true);
      await engine.close();
    },
  );

  test("that does not answer: a statement is given up, and its connection is never used again", {
    timeout: 30_000,
  }, async () => {
    const limits = { statementMs: 2_000, connectMs: 2_000 };
    const { engine, store } = await opened({ limits, poolSize: 1 });
    await store.commit("r1", entry(0));
    await cluster.freeze();
    const met = await store.commit("r1", entry(1)).catch((fault) => fault);
    await cluster.resume();
    expect(met).toMatchObject({ code: "unavailable", what: "committing" });
    // Whatever became of it: the journal is read after it, and goes on without a gap.
    const { entries } = await store.journal("r1");
    expect([1, 2]).toContain(entries.length);
    await store.commit("r1", entry(entries.length));
    expect((await store.journal("r1")).entries).toHaveLength(entries.length + 1);
    await engine.close();
  });

  test("a full pool: whoever waits for too long is turned away, the others go on", async () => {
    const { engine, store } = await opened({ poolSize: 1, limits: { connectMs: 1_500, idleMs: 60_000 } });
    let free = () => {};
    const holding = engine.db.transaction().execute(async (tx) => {
      await tx.selectFrom("runs").selectAll().execute();
      await new Promise<void>((resolve) => {
        free = resolve;
      });
    });
    await expect(store.commit("r1", entry(0))).rejects.toMatchObject({ code: "unavailable" });
    const waiting = store.commit("r1", entry(0));
    free();
    await Promise.all([holding, waiting]);
    expect((await store.journal("r1")).entries).toHaveLength(1);
    await engine.close();
  });

  test("a transaction that stands still is ended by the server, so that nobody waits for it", {
    timeout: 30_000,
  }, async () => {
    const { engine, store } = await opened({
      limits: { idleMs: 300 },
    });
    let free = () => {};
    let stands = () => {};
    const standsStill = new Promise<void>((resolve) => {
      stands = resolve;
    });
    const standing = engine.db
      .transaction()
      .execute(async (tx) => {
        await tx.selectFrom("lease").selectAll().forKeyShare().execute();
        await new Promise<void>((resolve) => {
          free = resolve;
          stands();
        });
        await tx.updateTable("runs").set({ state: "failed" }).execute();
      })
      .catch((error) => engine.faultOf(error, "a test"));
    await standsStill;
    const next = await lead(engine);
    free();
    expect(await standing).toMatchObject({ code: "unavailable" });
    expect(next.epoch).toBe(store.epoch + 1);
    expect(await next.run("r1")).toEqual(aRun);
    await engine.close();
  });

  test("that would not keep what it acknowledges is refused; a database's wish is overruled", async () => {
    const { url, database, engine } = await opened();
    await engine.close();
    await cluster.query(database, `alter database ${database} set synchronous_commit = off`);
    const again = await openPostgres({ url });
    await again.close();
    await cluster.query("postgres", "alter system set full_page_writes = off");
    await cluster.query("postgres", "select pg_reload_conf()");
    const refusal = { code: "storage", what: "PostgreSQL's full_page_writes", detail: { got: "off" } };
    for (;;) {
      const met = await openPostgres({ url }).catch((fault) => fault);
      // The server reads its settings in its own time.
      if (met instanceof Error) expect(met).toMatchObject(refusal);
      if (met instanceof Error) break;
      await met.close();
    }
    await cluster.query("postgres", "alter system reset full_page_writes");
    await cluster.query("postgres", "select pg_reload_conf()");
  });

  test("nobody there, and another's password", async () => {
    const url = await cluster.database();
    const nowhere = openPostgres({ url: cluster.url("x", { host: "127.0.0.1", port: 1 }) });
    await expect(nowhere).rejects.toMatchObject({
      code: "unavailable",
      what: "opening the database",
      detail: { got: expect.stringContaining("ECONNREFUSED"), todo: expect.stringContaining("store.url") },
    });
    const both = new AggregateError([new Error("connect ECONNREFUSED ::1:5"), new Error("127.0.0.1:5")]);
    expect(faultOf(both, "it").detail.got).toBe("connect ECONNREFUSED ::1:5; 127.0.0.1:5");
    const wrong = new URL(url);
    wrong.password = "wrong";
    const met = await openPostgres({ url: wrong.href }).catch((fault) => fault);
    expect(met).toMatchObject({ code: "storage", detail: { todo: expect.stringContaining("password") } });
    expect(JSON.stringify({ ...met.detail, cause: null, message: met.message })).not.toContain("wrong@");
  });
});
