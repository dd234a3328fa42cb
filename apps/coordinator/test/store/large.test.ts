import type { KyselyPlugin } from "kysely";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import type { Engine } from "../../src/store/engine.ts";
import { readLease, renewLease, takeLease } from "../../src/store/lease.ts";
import { type Store, storeOf } from "../../src/store/store.ts";
import { aRun, BENCHES, bytes, type Place } from "./bench.ts";

/** What a statement may send at once; sums and journals are far larger. */
const MOST = (2 << 20) + 4096;
const big = (seed: number, length: number) => new Uint8Array(length).map((_, at) => (at * 31 + seed) >>> 3);

/** The bytes of every parameter of a statement, whatever its shape. */
function bytesIn(node: unknown): number {
  if (node instanceof Uint8Array) return node.length;
  if (typeof node !== "object" || node === null) return 0;
  return Object.values(node).reduce((sum, part) => sum + bytesIn(part), 0);
}

describe.each(BENCHES)("large sums and journals on $name", ({ name, fresh }) => {
  let place: Place;
  let engine: Engine;
  let store: Store;
  let sent: number[] = [];
  /** Called after every answer, in the midst of its transaction. */
  let onAnswer: () => Promise<void> = async () => {};

  const watching: KyselyPlugin = {
    transformQuery: ({ node }) => {
      sent.push(bytesIn(node));
      return node;
    },
    transformResult: async ({ result }) => {
      await onAnswer();
      return result;
    },
  };
  beforeEach(async () => {
    [sent, onAnswer] = [[], async () => {}];
    place = await fresh();
    const opened = await place.open();
    engine = { ...opened, db: opened.db.withPlugin(watching) };
    const epoch = await takeLease(engine, { holder: "a", address: "a:1", leaseMs: 3_600_000 });
    store = storeOf({ engine, epoch: epoch! });
    await store.addRun(aRun);
  });
  afterEach(async () => {
    await engine.close();
    await place.remove();
  });

  test("are written in statements of a few megabytes, and read again as they were", async () => {
    const sums = [0, 3].map((cohort) => ({ cohort, words: big(cohort, (5 << 20) + 12) }));
    const append = [0, 1, 2, 3].map((seq) => ({ seq, entry: big(seq, 1 << 20) }));
    await store.commit("r1", { append, sums });
    expect(Math.max(...sent)).toBeLessThan(MOST);
    const { entries, sums: read } = await store.journal("r1");
    expect(entries.map((entry, at) => Buffer.compare(entry, append[at]!.entry))).toEqual([0, 0, 0, 0]);
    expect(read.map(({ cohort, words }, at) => [cohort, Buffer.compare(words, sums[at]!.words)])).toEqual([
      [0, 0],
      [3, 0],
    ]);
  });

  test("a shorter sum leaves nothing of a longer one before it; an empty one is there", async () => {
    await store.commit("r1", { sums: [{ cohort: 1, words: big(1, 5 << 20) }] });
    await store.commit("r1", { sums: [{ cohort: 1, words: bytes(1, 2) }] });
    await store.commit("r1", { sums: [{ cohort: 2, words: bytes() }] });
    const sums = [
      { cohort: 1, words: bytes(1, 2) },
      { cohort: 2, words: bytes() },
    ];
    expect(await store.journal("r1")).toEqual({ entries: [], sums });
  });

  test("a sum that lacks a piece is refused by name", async () => {
    await store.commit("r1", { sums: [{ cohort: 1, words: big(1, 5 << 20) }] });
    await engine.db.deleteFrom("sums").where("at", "=", 1).execute();
    await expect(store.journal("r1")).rejects.toMatchObject({
      code: "storage",
      what: "the sum of cohort 1",
      detail: { expected: "piece 1", got: "piece 2" },
    });
  });

  test("many entries are read whole, in order; one that is missing is said", async () => {
    const append = Array.from({ length: 130 }, (_, seq) => ({ seq, entry: bytes(seq) }));
    await store.commit("r1", { append });
    expect((await store.journal("r1")).entries.map(([first]) => first)).toEqual(append.map(({ seq }) => seq));
    await engine.db.deleteFrom("journal").where("seq", "=", 77).execute();
    await expect(store.journal("r1")).rejects.toMatchObject({ detail: { expected: "entry 77" } });
  });

  describe.skipIf(name !== "postgres")("while other connections go on", () => {
    /** Renews after each of the answers from here on; what came of it. */
    function renewing(): boolean[] {
      const renewed: boolean[] = [];
      onAnswer = async () => {
        const met = await renewLease(engine, { epoch: store.epoch, leaseMs: 3_600_000 }).catch(() => false);
        renewed.push(met);
      };
      return renewed;
    }

    test("the lease is renewed while a journal is read, and while something is written alone", async () => {
      await store.commit("r1", {
        append: [{ seq: 0, entry: bytes(1) }],
        sums: [{ cohort: 0, words: bytes(1) }],
      });
      const renewed = renewing();
      await store.journal("r1");
      const reading = renewed.length;
      expect(reading).toBeGreaterThan(3);
      await store.addRun({ ...aRun, run: "r2" });
      await store.addDevice({ name: "w", serial: bytes(1), certificate: bytes(2) });
      await store.trust.revoke("w", null);
      expect(renewed.length).toBeGreaterThan(reading + 6);
      expect(renewed).not.toContain(false);
      expect((await readLease(engine)).renewals).toBe(renewed.length);
    });

    test("a journal is read after the commit that is under way, whose answer nobody may get", async () => {
      const held: (() => void)[] = [];
      // The last statement is answered; the transaction's last word waits.
      onAnswer = async () => {
        if (sent.length === 3) await new Promise<void>((resolve) => held.push(resolve));
      };
      sent = [];
      const commit = store.commit("r1", { append: [{ seq: 0, entry: bytes(1) }] });
      while (held.length === 0) await new Promise(setImmediate);
      let read = false;
      const reading = store.journal("r1").finally(() => {
        read = true;
      });
      while ((await waiting()) === 0) expect(read).toBe(false);
      held[0]?.();
      await commit;
      expect((await reading).entries).toEqual([bytes(1)]);
    });

    test("entries and sums of a journal are of one moment, whatever is committed meanwhile", async () => {
      const change = (seq: number) => ({
        append: [{ seq, entry: bytes(seq) }],
        sums: [{ cohort: 0, words: bytes(seq) }],
      });
      await store.commit("r1", change(0));
      const plain = { ...engine, db: engine.db.withoutPlugins() };
      const other = storeOf({ engine: plain, epoch: store.epoch });
      let next = 1;
      onAnswer = () => other.commit("r1", change(next++));
      const { entries, sums } = await store.journal("r1");
      expect(next).toBeGreaterThan(4);
      expect(sums).toEqual([{ cohort: 0, words: entries.at(-1) }]);
    });

    test("a revocation that is under way is outwaited, though its answer may be lost", async () => {
      await store.addDevice({ name: "w", serial: bytes(1), certificate: bytes(2) });
      const held: (() => void)[] = [];
      onAnswer = async () => {
        if (sent.length === 4) await new Promise<void>((resolve) => held.push(resolve));
      };
      sent = [];
      const revoking = store.trust.revoke("w", null);
      while (held.length === 0) await new Promise(setImmediate);
      expect((await storeOf({ engine, epoch: store.epoch }).device("w"))?.revoked).toBe(false);
      let isOver = false;
      const waited = store.trust.outwait().finally(() => {
        isOver = true;
      });
      while ((await waiting()) === 0) expect(isOver).toBe(false);
      held[0]?.();
      await waited;
      expect((await store.device("w"))?.revoked).toBe(true);
      await revoking;
    });

    /** Transactions that wait for another to end. */
    async function waiting(): Promise<number> {
      const { rows } = await engine.leases.executeQuery<{ count: number }>({
        sql: `select count(*)::int as count from pg_locks
          where not granted and locktype in ('transactionid', 'advisory')`,
        parameters: [],
      } as never);
      return rows[0]?.count ?? 0;
    }
  });
});
