import { Fault } from "@tutti/foundation/fault";
import { afterEach, describe, expect, test } from "vitest";
import { plan, type Trouble, temporary } from "./house.ts";
import { World } from "./world.ts";

/**
 * docs/reliability.md, promise 1: acknowledged means durable and counted exactly once, whatever is killed and
 * when.
 */

const ABC = ["a", "b", "c"];
const open: { remove(): void }[] = [];
afterEach(() => {
  for (const one of open.splice(0)) one.remove();
});

function world(devices: readonly string[] = ABC, change: Parameters<typeof plan>[0] = {}): World {
  const place = temporary();
  open.push(place);
  return new World(place.folder, plan(change), devices);
}

type Given = readonly [devices?: readonly string[], change?: Parameters<typeof plan>[0]];

/** A whole run without trouble: what every other one is compared with. */
async function undisturbed(given: Given = []): Promise<{ traces: unknown; operations: string[] }> {
  const quiet = world(...given);
  await quiet.boot();
  expect(await quiet.live()).toBe(true);
  const traces = await quiet.traces();
  const { header } = quiet.driver;
  expect([header.state, header.version, header.attempt]).toEqual(["finished", 1, 0]);
  expect(header.history.map(({ survivors }) => survivors)).toEqual([3, 3]);
  await quiet.close();
  return { traces, operations: quiet.life.weather.names };
}

/** The run with troubles, in as many lives as they take; what it left, and what it acknowledged. */
async function disturbed(trouble: Trouble, given: Given = []): Promise<World> {
  const run = world(...given);
  await run.boot([trouble]);
  if (!(await run.live())) {
    await run.kill();
    await run.boot();
    expect(await run.live()).toBe(true);
  }
  return run;
}

describe("a coordinator that is killed at a storage operation", () => {
  test("finishes the run with the same adapter, bit for bit, and everyone counted once", {
    timeout: 300_000,
  }, async () => {
    const { traces, operations } = await undisturbed();
    expect(operations.length).toBeGreaterThan(15);
    for (const at of operations.keys()) {
      for (const when of ["before", "after"] as const) {
        const run = await disturbed({ at, when, how: "hang" });
        expect(await run.traces(), `killed ${when} ${operations[at]} ${at}`).toEqual(traces);
        await run.close();
      }
    }
  });
});

describe("a coordinator that is killed while it asks more devices than it needs", () => {
  test("takes the same ones, and the others are owed an invitation as before", {
    timeout: 300_000,
  }, async () => {
    const cohort = { min: 3, max: 3, overInvite: 1.3 };
    const given: Given = [["a", "b", "c", "d"], { cohort, staleness: { max: 2 } }];
    const { traces, operations } = await undisturbed(given);
    const { header } = traces as { header: { owed: Record<string, number> } };
    expect(Object.keys(header.owed)).toHaveLength(1);
    for (const at of operations.keys()) {
      const run = await disturbed({ at, when: at % 2 === 0 ? "before" : "after", how: "hang" }, given);
      expect(await run.traces(), `killed at ${operations[at]} ${at}`).toEqual(traces);
      await run.close();
    }
  });
});

describe("storage that fails once", () => {
  test("is asked again: nothing is lost, nothing is counted twice", { timeout: 300_000 }, async () => {
    const { traces, operations } = await undisturbed();
    for (const at of operations.keys()) {
      if (at === 0) continue;
      for (const when of ["before", "after"] as const) {
        const run = await disturbed({ at, when, how: "throw" });
        expect(await run.traces(), `EIO ${when} ${operations[at]} ${at}`).toEqual(traces);
        await run.close();
      }
    }
  });
});

describe("a coordinator that is told to stop while the answer of a commit is lost", () => {
  test("writes nothing more behind it: the next one finds the round whole", {
    timeout: 300_000,
  }, async () => {
    const { traces, operations } = await undisturbed();
    for (const at of operations.keys()) {
      if (operations[at] !== "commit") continue;
      const run = world();
      await run.boot();
      let [ended, waited] = [false, ""];
      run.life.weather.onDone = (_, done) => {
        if (done !== at) return;
        // Somebody's line ends meanwhile: an entry waits for its turn.
        run.driver.submit("a", { case: "disconnected", value: true }).then(
          () => (waited = "taken"),
          (fault: Fault) => (waited = fault.code),
        );
        void run.driver.shutdown().then(() => (ended = true));
        throw new Fault("storage", "a test", { got: "no answer" });
      };
      await run.live(() => ended);
      expect(waited, `${operations[at]} ${at}`).toBe("unavailable");
      await run.close();
      await run.boot();
      expect(await run.live()).toBe(true);
      expect(await run.traces(), `stopped after ${operations[at]} ${at}`).toEqual(traces);
      await run.close();
    }
  });
});

describe("unmasking", () => {
  test("lets the event loop turn for each mask, and is not done again when publishing fails", async () => {
    const devices = Array.from({ length: 20 }, (_, at) => `d${at + 10}`);
    const turns: [string, number][] = [];
    const run = world(devices, { cohort: { min: 3, max: 20 } });
    await run.boot();
    const { weather } = run.life;
    let count = 0;
    const tick = () => {
      count++;
      if (!weather.dead && !done) setImmediate(tick);
    };
    let done = false;
    tick();
    let failed = false;
    weather.onOperation = (name) => {
      turns.push([name, count]);
      if (name !== "putBytes" || failed) return;
      failed = true;
      throw new Fault("storage", "a test", { got: "ENOSPC" });
    };
    expect(await run.live(() => run.driver.header.round === 1)).toBe(true);
    done = true;
    const completions = turns.flatMap(([name], at) => (name === "complete" ? [at] : []));
    const between = completions.map((at) => turns[at + 1]![1] - turns[at]![1]);
    expect(completions).toHaveLength(2);
    expect(between[0]).toBeGreaterThanOrEqual(20);
    expect(between[1]).toBeLessThan(5);
    expect(run.reports).toMatchObject([{ doing: "completing a round", code: "storage", againMs: 250 }]);
    await run.close();
  });
});

describe("storage that stays broken", () => {
  test("is reported each time, asked ever less often, and nothing is unmasked twice", async () => {
    const { traces, operations } = await undisturbed();
    const close = operations.indexOf("commit", operations.indexOf("complete"));
    // Writing fails seven times, reading in between works, as on a full disk.
    const troubles = Array.from({ length: 7 }, (_, time) => close + 2 * time).map((at) => {
      return { at, when: "before", how: "throw" } as const;
    });
    const run = world();
    await run.boot(troubles);
    expect(await run.live()).toBe(true);
    expect(await run.traces()).toEqual(traces);
    expect(run.life.weather.names.filter((name) => name === "complete")).toHaveLength(2);
    expect(run.reports.map(({ doing, code, againMs }) => [doing, code, againMs])).toEqual(
      [250, 500, 1000, 2000, 4000, 5000, 5000].map((againMs) => ["closing a round", "storage", againMs]),
    );
    await run.close();
  });

  test("a quiet run reports nothing, a bug is reported with its place", async () => {
    const run = world();
    await run.boot();
    expect(await run.live(() => run.driver.round?.phase === "training")).toBe(true);
    expect(run.reports).toEqual([]);
    const nonsense = { case: "shared", value: null } as never;
    await expect(run.driver.submit("a", nonsense)).rejects.toThrow();
    Object.assign(run.driver.options, {
      changed: () => {
        throw new TypeError("a slip");
      },
    });
    await run.driver.submit("a", { case: "ready", value: true });
    Object.assign(run.driver.options, { changed: () => {} });
    expect(await run.live()).toBe(true);
    expect(run.reports.at(-1)).toMatchObject({ doing: "performing", code: "internal", error: "a slip" });
    expect(run.reports.at(-1)!.stack).toContain("durable.test");
    await run.close();
  });
});
