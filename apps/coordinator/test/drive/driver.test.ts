import { Fault } from "@tutti/foundation/fault";
import { firstHeader } from "@tutti/round/run";
import { sessionId, stageOf } from "@tutti/round/summing";
import { RoundRecordSchema } from "@tutti/wire/admin";
import { create, decode } from "@tutti/wire/message";
import { afterEach, describe, expect, test } from "vitest";
import { Player } from "../../../../libs/round/test/player.ts";
import { NEWEST_RECORDS, runStoreOf } from "../../src/drive/run-store.ts";
import { plan, temporary } from "./house.ts";
import { World } from "./world.ts";

const ABC = ["a", "b", "c"];
const open: World[] = [];
const places: { remove(): void }[] = [];
afterEach(async () => {
  for (const one of open.splice(0)) await one.close();
  for (const place of places.splice(0)) place.remove();
});

async function world(
  devices: readonly string[] = ABC,
  change: Parameters<typeof plan>[0] = {},
): Promise<World> {
  const place = temporary();
  places.push(place);
  const one = new World(place.folder, plan(change), devices);
  open.push(one);
  await one.boot();
  return one;
}

/** Ends this life as a kill does, and begins the next on the same disk. */
async function reboot(one: World): Promise<void> {
  await one.kill();
  await one.boot();
}

const stages = (one: World) => one.driver.round?.cohorts.map(({ sum }) => stageOf(sum)) ?? [];
const phase = (one: World) => one.driver.round?.phase;
const secureStage = (one: World) => {
  const sum = one.driver.round?.cohorts[0]?.sum;
  return sum?.kind === "secure" ? sum.session.phase : undefined;
};
const code = (promise: Promise<unknown>) => promise.then(() => "taken").catch((fault: Fault) => fault.code);
const leave = (one: World, device: string) => {
  one.here.delete(device);
  return one.driver.submit(device, { case: "disconnected", value: true });
};
const arrive = (one: World, device: string) => {
  if (!one.players.has(device)) one.players.set(device, new Player(device));
  one.here.add(device);
  return one.driver.submit(device, { case: "connected", value: true });
};

describe("group commit", () => {
  test("twenty uploads at once cost a few transactions", async () => {
    const names = Array.from({ length: 20 }, (_, at) => `d${at + 10}`);
    const one = await world(names, { cohort: { min: 3, max: 20 } });
    await one.live(() => stages(one)[0] === "masking");
    const before = one.life.weather.count;
    await one.live(() => one.acked.length === 20);
    expect(one.life.weather.count - before).toBeLessThanOrEqual(8);
    await one.live();
    expect(one.driver.header.history.map(({ survivors }) => survivors)).toEqual([20, 20]);
  });
});

describe("a round's devices", () => {
  test("a newcomer waits for the next round, and is in it though everyone expected is there", async () => {
    const one = await world(ABC, { rounds: 2 });
    await one.live(() => phase(one) === "training");
    await arrive(one, "z");
    expect(one.driver.wordTo("z")?.word.case).toBe("published");
    await one.live();
    expect(one.driver.header.history.map(({ survivors }) => survivors)).toEqual([3, 4, 4]);
  });

  test("a device that leaves and returns within a stage hears its word again", async () => {
    const one = await world();
    await one.live(() => phase(one) === "summing");
    const word = one.driver.wordTo("b");
    expect(word).not.toBeNull();
    await leave(one, "b");
    await arrive(one, "b");
    expect(one.driver.wordTo("b")).toEqual(word);
    await one.live();
    expect(one.driver.header.history[0]?.survivors).toBe(3);
  });

  test("a crash that a device does not come back from costs seconds, not a deadline", async () => {
    const one = await world([...ABC, "d"]);
    await one.live(() => phase(one) === "training");
    one.here.delete("d");
    await reboot(one);
    await one.live(() => phase(one) === "summing");
    expect(one.life.clock.nowMs()).toBeLessThan(30_000);
    await one.live();
    expect(one.driver.header.history.map(({ survivors }) => survivors)).toEqual([3, 3]);
  });

  test("one whose leaving storage did not take is waited for no longer either", async () => {
    const one = await world([...ABC, "d"]);
    await one.live(() => phase(one) === "training");
    let left = 1;
    one.life.weather.onOperation = (name) => {
      if (name === "commit" && left-- > 0) throw new Fault("storage", "a test", { got: "EIO" });
    };
    expect(await code(leave(one, "d"))).toBe("unavailable");
    await one.live(() => phase(one) === "summing");
    expect(one.life.clock.nowMs()).toBeLessThan(30_000);
    expect(one.driver.round?.connected).toEqual(new Set(ABC));
  });

  test("an acknowledged upload stays in the sum when its device and the coordinator are gone", async () => {
    const one = await world([...ABC, "d"]);
    await one.live(() => one.acked.includes("0/0 d"));
    one.here.delete("d");
    await reboot(one);
    await one.live();
    expect(one.driver.header.history.map(({ survivors }) => survivors)).toEqual([4, 3]);
    expect(one.driver.header.history[0]?.examples).toBeCloseTo(40, 3);
  });
});

describe("a sum that falls below its threshold", () => {
  const stages = ["advertising", "sharing", "masking", "attesting"] as const;
  test.each(stages)("while %s is tried again by itself, with those who are left", async (stage) => {
    const five = [...ABC, "d", "e"];
    const one = await world(five, { rounds: 1 });
    await one.live(() => secureStage(one) === stage);
    // Of five, four must stay; of the three that are left, two.
    await Promise.all([leave(one, "d"), leave(one, "e")]);
    await one.live();
    const { state, history } = one.driver.header;
    expect(state).toBe("finished");
    // In the first stage nobody's keys are out yet, so the sum goes on with three; later it begins anew.
    const survivors = history.map((record) => record.survivors);
    expect(survivors).toEqual([3, 3]);
    expect(new Set(one.acked.filter((about) => about.startsWith("0/1")))).toEqual(
      new Set(stage === "advertising" ? [] : ABC.map((device) => `0/1 ${device}`)),
    );
  });
});

describe("a crash", () => {
  test("finds the deadlines as they were, though the first device came late", async () => {
    const one = await world([], { deadlines: { joinMs: 10_000 } });
    await one.live(() => one.life.weather.names.includes("commit"));
    one.life.clock.pass(8_000);
    await arrive(one, "a");
    one.life.clock.pass(1_400);
    await Promise.all([arrive(one, "b"), arrive(one, "c")]);
    // At ten seconds, half a second after they came, the round begins with those who are here.
    await one.live(() => phase(one) === "summing");
    expect(one.life.clock.nowMs()).toBe(10_000);
    await reboot(one);
    await one.live();
    expect(one.driver.header).toMatchObject({ state: "finished", reason: "" });
  });
});

describe("what must end by name", () => {
  test("an evaluation in which nobody holds rows out", async () => {
    const one = await world(ABC, { attempts: 1 });
    await one.live(() => one.driver.header.round === 1);
    one.rows = 0;
    await one.live();
    const { state, reason, version } = one.driver.header;
    expect({ state, version }).toEqual({ state: "failed", version: 1 });
    expect(reason).toBe("round 1, attempt 1 of 1: sum: expected some weight, got 0 examples");
  });

  test("a round nobody comes to: every attempt, each with its whole deadline", async () => {
    const one = await world([], { attempts: 2, deadlines: { joinMs: 1_000 } });
    await one.live();
    expect(one.driver.header.reason).toBe("round 0, attempt 2 of 2: 0 of at least 3 devices came");
    expect(one.life.clock.nowMs()).toBeGreaterThanOrEqual(2_000);
    expect(one.life.clock.nowMs()).toBeLessThan(2_100);
  });

  test("a journal that is refused when it is replayed", async () => {
    const one = await world(ABC, { attempts: 2 });
    await one.live(() => phase(one) === "training");
    const kept = runStoreOf(one.life.store, one.run);
    await kept.read();
    const [entry] = (await kept.read()).entries;
    await one.driver.shutdown();
    await kept.append([{ ...entry!, device: "nobody", event: { case: "ready", value: true } }], new Map());
    await reboot(one);
    await one.live(() => one.driver.header.attempt === 1);
    expect(one.driver.header.reason).toContain("its journal does not replay: nobody was not invited");
    await one.live();
    expect(one.driver.header).toMatchObject({ state: "finished", reason: "" });
  });
});

describe("a run that is stopped", () => {
  test("stays stopped, whatever was under way", async () => {
    for (const moment of ["gathering", "training", "summing", "unmasking"]) {
      const one = await world();
      await one.live(() => phase(one) === moment);
      await one.driver.stop();
      await one.live();
      for (let turn = 0; turn < 20; turn++) await new Promise((resolve) => setImmediate(resolve));
      expect(one.driver.header.state).toBe("stopped");
      await reboot(one);
      expect([one.driver.header.state, one.driver.round]).toEqual(["stopped", null]);
      expect(one.driver.wordTo("a")?.word.case).toBe("runOver");
    }
  });

  test("also when its round fails in the very transaction that it waits for", async () => {
    const one = await world(["a", "b"], { deadlines: { joinMs: 1_000 }, attempts: 5 });
    await one.live(() => one.driver.round?.connected.size === 2);
    let stopped: Promise<void> | undefined;
    one.life.weather.onOperation = () => {
      stopped ??= one.driver.stop();
    };
    await one.live();
    await stopped;
    const { state, attempt } = one.driver.header;
    expect({ state, attempt }).toEqual({ state: "stopped", attempt: 0 });
    expect(await code(one.driver.submit("a", { case: "ready", value: true }))).toBe("conflict");
  });
});

describe("an upload", () => {
  test("that arrives in the next round is refused, though its device is in that one too", async () => {
    const one = await world(ABC, {
      rounds: 2,
      adapter: { method: "fedit", rank: 2, alpha: 4, targets: "all-linear" },
    });
    const masking = (round: number) => () =>
      one.driver.round?.spec.task.round === round && stages(one)[0] === "masking";
    await one.live(masking(0));
    const { cohorts, spec } = one.driver.round!;
    const session = sessionId(cohorts[0]!.sum);
    const vector = new Uint32Array(spec.plan.tensors.length).fill(7);
    await one.live(masking(1));
    const late = code(one.driver.submit("a", { case: "uploaded", value: true }, { vector, session }));
    await one.live();
    expect(await late).toBe("conflict");
    expect(one.driver.header.history.map(({ survivors }) => survivors)).toEqual([3, 3, 3]);
  });
});

describe("the header", () => {
  test("holds the newest records of ten thousand rounds, and those before are rows", async () => {
    const one = await world();
    await one.driver.shutdown();
    const { store } = one.life;
    const kept = runStoreOf(store, one.run);
    let { header } = await kept.read();
    const record = (round: number) =>
      create(RoundRecordSchema, { round, release: "ab".repeat(32), loss: 0.5 });
    // As a coordinator before this one left it.
    header = await kept.close({
      ...header,
      history: Array.from({ length: 10_000 }, (_, round) => record(round)),
    });
    header = await kept.close({ ...header, history: [...header.history, record(10_000)] });
    expect((await kept.read()).header).toEqual(header);
    expect(header.earlier + header.history.length).toBe(10_001);
    expect(header.history).toHaveLength(NEWEST_RECORDS);
    const rows = await store.history(one.run, { from: 0, most: 20_000 });
    const rounds = rows.map(({ record }) => decode(RoundRecordSchema, record, record.length).round);
    expect([...rounds, ...header.history.map(({ round }) => round)]).toEqual([...Array(10_001).keys()]);
    expect(await store.history(one.run, { from: 9_899, most: 7 })).toHaveLength(2);
  });

  test("begins running, with nothing behind it", () => {
    const header = firstHeader({ version: 0, manifest: "aa", adapter: "bb" });
    expect([header.state, header.round, header.attempt, header.history.length]).toEqual(["running", 0, 0, 0]);
  });
});
