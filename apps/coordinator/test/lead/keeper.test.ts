import { systemClock } from "@tutti/foundation/clock";
import { Fault } from "@tutti/foundation/fault";
import { sql } from "kysely";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { Keeper, type KeeperOptions } from "../../src/lead/keeper.ts";
import { LEASE_MS, LEFT_MS, MARGIN_MS } from "../../src/lead/sight.ts";
import { NO_LOG } from "../../src/observe/log.ts";
import type { Engine } from "../../src/store/engine.ts";
import { readLease, takeLease } from "../../src/store/lease.ts";
import { TestClock } from "../drive/house.ts";
import { BENCHES, lead, type Place } from "../store/bench.ts";

describe.each(BENCHES)("keepers of one lease on $name", ({ fresh }) => {
  let place: Place;
  let engine: Engine;
  let keepers: Keeper[] = [];
  let told: string[] = [];
  beforeEach(async () => {
    [keepers, told] = [[], []];
    place = await fresh();
    engine = await place.open();
  });
  afterEach(async () => {
    await Promise.all(keepers.map((keeper) => keeper.close()));
    await engine.close();
    await place.remove();
  });

  /** One that says what becomes of it. */
  function keeper(holder: string, change: Partial<KeeperOptions> = {}): Keeper {
    const made = new Keeper({
      engine,
      holder,
      address: `${holder}:1`,
      clock: systemClock(),
      log: NO_LOG,
      reign: async (epoch) => {
        told.push(`${holder} reigns in ${epoch}`);
        return {
          end: async () => {
            await new Promise((resolve) => setTimeout(resolve, 20));
            told.push(`${holder} ended ${epoch}`);
          },
        };
      },
      onRole: (role) => {
        if (role.kind === "leader") told.push(`${holder} leads`);
      },
      ...change,
    });
    keepers.push(made);
    made.start();
    return made;
  }

  const until = async (line: string) => {
    while (!told.includes(line)) await new Promise((resolve) => setTimeout(resolve, 5));
  };

  test("one leads, the other knows where; given up, it passes on when nothing goes on there", async () => {
    const a = keeper("a");
    await until("a reigns in 1");
    const b = keeper("b");
    while (b.role.kind !== "standby" || b.role.leader !== "a:1") await new Promise(setImmediate);
    expect([a.holds(), b.holds()]).toEqual([true, false]);
    await a.close();
    await until("b reigns in 2");
    expect(told).toEqual(["a leads", "a reigns in 1", "a ended 1", "b leads", "b reigns in 2"]);
    expect([a.holds(), b.holds()]).toEqual([false, true]);
  });

  test("a leader out of its database's reach is none before another is, and may be one again", async () => {
    let cut = false;
    const lost = new Error("no route");
    const away = new Proxy(engine.leases, {
      get: (target, name) => {
        if (cut) throw lost;
        const value = Reflect.get(target, name, target);
        return typeof value === "function" ? value.bind(target) : value;
      },
    });
    const a: Keeper = keeper("a", {
      engine: { ...engine, leases: away },
      onRole: (role) => void told.push(`a is ${role.kind}`),
    });
    await until("a reigns in 1");
    keeper("b", {
      onRole: (role) => void (role.kind === "leader" && told.push(`b leads, a holds it: ${a.holds()}`)),
    });
    cut = true;
    await until("b reigns in 2");
    expect(told.indexOf("a is standby")).toBeLessThan(told.indexOf("b leads, a holds it: false"));
    cut = false;
    await keepers[1]!.close();
    await until("a reigns in 3");
  }, 30_000);

  test("one that cannot take up the runs gives the lease to whoever can", async () => {
    const reign = () => Promise.reject(new Fault("storage", "a test", { got: "EIO" }));
    keeper("a", { reign });
    await until("a leads");
    keeper("b");
    await until("b leads");
    while (!told.some((line) => /^b reigns/.test(line))) await new Promise(setImmediate);
    expect(keepers.map((one) => one.holds())).toEqual([false, true]);
  });

  test("one whose connection ends renews over another at once, or serves no longer", async () => {
    if (engine.session === "") return;
    let [aheadMs, cut, ended] = [0, false, 0];
    const clock = { ...systemClock(), nowMs: () => performance.now() + aheadMs };
    const own = await place.open();
    own.onLeft(() => ended++);
    const leases = new Proxy(own.leases, {
      get: (target, name) => {
        if (cut) throw new Error("no route");
        const value = Reflect.get(target, name, target);
        return typeof value === "function" ? value.bind(target) : value;
      },
    });
    const a = keeper("a", { clock, engine: { ...own, leases }, holder: `a ${own.session}` });
    await until("a reigns in 1");
    const end = () =>
      sql`select pg_terminate_backend(pid) from pg_stat_activity where application_name = ${own.session}`
        .execute(engine.db)
        .then(() => {});
    const { renewals } = await readLease(engine);
    await end();
    while ((await readLease(engine)).renewals === renewals) await new Promise(setImmediate);
    expect([(await readLease(engine)).left, a.holds()]).toEqual([false, true]);
    cut = true;
    const before = ended;
    await end();
    while (ended === before) await new Promise(setImmediate);
    // Long before its lease is over by any clock, but not before another may have it.
    aheadMs = LEFT_MS - MARGIN_MS;
    expect(a.holds()).toBe(false);
    await a.close();
    await own.close();
  });

  test("one whose process is gone is followed though its lease goes on", async () => {
    if (engine.session === "") return;
    const own = await place.open();
    const epoch = await takeLease(own, { holder: `a ${own.session}`, address: "a:1", leaseMs: 3_600_000 });
    await own.close();
    keeper("b");
    // By the database's clock it was renewed a while ago, and it is not seen to stand still.
    for (let times = 0; !told.includes("b leads"); times++) {
      const set = { until_ms: sql<number>`${engine.nowMs} + ${LEASE_MS - LEFT_MS - 1}` };
      const moved = { ...set, renewals: sql<number>`renewals + 1` };
      const change = times % 100 === 0 ? moved : set;
      await engine.db.updateTable("lease").set(change).where("epoch", "=", epoch).execute();
      await new Promise((resolve) => setTimeout(resolve, 5));
    }
    expect((await readLease(engine)).epoch).toBe(2);
  });

  test("a process that stood still holds nothing when it wakes, before it could look", async () => {
    let aheadMs = 0;
    const clock = { ...systemClock(), nowMs: () => performance.now() + aheadMs };
    const a = keeper("a", { clock });
    await until("a reigns in 1");
    expect(a.holds()).toBe(true);
    aheadMs = 3_000;
    expect(a.holds()).toBe(false);
    aheadMs = 0;
  });

  test("a lease counts from when its renewal was asked for, however late the answer is", async () => {
    const clock = new TestClock();
    const sleep = clock.sleep.bind(clock);
    let [sleeps, renewing] = [0, 0];
    clock.sleep = (...about) => {
      sleeps++;
      return sleep(...about);
    };
    const slow = new Proxy(engine.leases, {
      get: (target, name) => {
        if (name === "updateTable" && renewing === 0) {
          renewing = sleeps;
          clock.pass(1_500);
        }
        const value = Reflect.get(target, name, target);
        return typeof value === "function" ? value.bind(target) : value;
      },
    });
    const a = keeper("a", { clock, engine: { ...engine, leases: slow, onHint: () => {} } });
    await until("a reigns in 1");
    clock.next();
    // It sleeps again once it has heard.
    while (renewing === 0 || sleeps === renewing) await new Promise(setImmediate);
    clock.pass(LEASE_MS - MARGIN_MS - 1_500 - 1);
    expect(a.holds()).toBe(true);
    clock.pass(1);
    expect(a.holds()).toBe(false);
  });

  test("what is closed has ended its reigns, also those whose lease was lost", async () => {
    let release = () => {};
    const released = new Promise<void>((resolve) => {
      release = resolve;
    });
    const end = async () => {
      told.push("ending");
      await released;
      told.push("ended");
    };
    const a = keeper("a", { reign: async () => ({ end }) });
    await until("a leads");
    await lead(engine);
    await until("ending");
    const closing = a.close().then(() => told.push("closed"));
    await new Promise((resolve) => setTimeout(resolve, 100));
    release();
    await closing;
    expect(told.slice(-2)).toEqual(["ended", "closed"]);
  });
});
