import { RunRequestSchema } from "@tutti/wire/admin";
import { DeviceStateSchema, HelloRequestSchema } from "@tutti/wire/device";
import { create } from "@tutti/wire/message";
import { CheckInRequestSchema, ReportRequestSchema } from "@tutti/wire/round";
import { afterEach, beforeEach, describe, expect, test, vi } from "vitest";
import { NOW_S } from "../../../../libs/round/test/cast.ts";
import { JUDGE_MS } from "../../src/drive/dispatch.ts";
import { plan, temporary } from "../drive/house.ts";
import { callOf, Desk } from "./desk.ts";

const ABC = ["a", "b", "c"];
let place: ReturnType<typeof temporary>;
let desk: Desk;
beforeEach(async () => {
  place = temporary();
  desk = await Desk.open(place.folder);
});
afterEach(async () => {
  await desk.close();
  place.remove();
});

const serving = (run: string) => [...desk.coordinator.dispatch.schedule.serving(run)].sort();
const statusOf = (run: string) =>
  desk.owner.status(create(RunRequestSchema, { run }), callOf("owner", "owner"));
const charging = (device: string, charging: boolean) =>
  desk.devices.report(
    create(ReportRequestSchema, { state: create(DeviceStateSchema, { charging }) }),
    callOf(device, "device"),
  );

/** To the end of the run, by these devices; who was in each round that counted. */
async function finish(run: string, devices: readonly string[], done = () => false): Promise<void> {
  const driver = desk.coordinator.driver(run);
  for (let at = 0; driver.header.state === "running" && !done(); at++) {
    if (at > 3000) throw new Error(`stuck: ${driver.round?.phase}`);
    const before = driver.round;
    await desk.answer(...devices);
    await desk.settle();
    await new Promise((resolve) => setTimeout(resolve, 1));
    if (driver.round === before) desk.clock.next();
  }
}

describe("which devices are asked", () => {
  test("those with the labels, in the state, that the plan names; the others are told why not", async () => {
    const eligibility = { labels: { region: "north" }, charging: true };
    const run = await desk.startRun(plan({ eligibility }));
    const north = { labels: { region: "north" } };
    const far = desk.listen("far", { labels: { region: "south" }, state: { charging: true } });
    const lines = ABC.map((device) => desk.listen(device, { ...north, state: { charging: device !== "c" } }));
    await desk.settle();
    expect(serving(run)).toEqual(["a", "b"]);
    const told = far.words.at(-1)?.word;
    expect(told).toMatchObject({ case: "idle", value: { because: "label region is another" } });
    expect(lines[2]?.words.at(-1)?.word).toMatchObject({ case: "idle", value: { because: "not charging" } });
    const status = await statusOf(run);
    expect([status.here, status.eligible, status.needed]).toEqual([4, 2, 3]);
    expect(status.waiting).toBe(
      "2 of at least 3 eligible devices are here; 1 is out: label region is another; 1 is out: not charging",
    );
    await charging("c", true);
    await desk.settle();
    expect(serving(run)).toEqual(ABC);
    await finish(run, ABC);
    expect(desk.coordinator.driver(run).header.state).toBe("finished");
    expect(far.words.map(({ word }) => word.case)).toEqual(["idle"]);
  });

  test("one that stops charging leaves a round that gathers, and stays in one that trains", async () => {
    const run = await desk.startRun(plan({ eligibility: { charging: true } }));
    for (const device of ["a", "b"]) desk.listen(device, { state: { charging: true } });
    await desk.settle();
    await charging("a", false);
    await desk.settle();
    expect([serving(run), [...desk.round!.connected]]).toEqual([["b"], ["b"]]);
    await charging("a", true);
    desk.listen("c", { state: { charging: true } });
    await desk.settle();
    while (desk.round?.phase === "gathering" && desk.clock.next()) await desk.settle();
    await charging("a", false);
    await desk.settle();
    expect([serving(run), [...desk.round!.invited].sort()]).toEqual([ABC, ABC]);
  });
});

describe("a device that says something else of itself all the time", () => {
  const written = async (run: string) => (await desk.store.journal(run)).entries.length;
  const relisten = (device: string, charging: boolean) => void desk.listen(device, { state: { charging } });
  const ask = (device: string, charging: boolean) =>
    desk.devices.checkIn(
      create(CheckInRequestSchema, { state: create(DeviceStateSchema, { charging }) }),
      callOf(device, "device"),
    );

  test.each([
    ["reporting", charging],
    ["listening anew", relisten],
    ["asking", ask],
  ])("is judged once a second, %s, and then by the last that it said", async (_name, say) => {
    const run = await desk.startRun(plan({ eligibility: { charging: true } }));
    await say("a", true);
    if (say === charging) desk.listen("a", { state: { charging: true } });
    await desk.settle();
    const before = await written(run);
    for (let time = 0; time < 30; time++) {
      await say("a", time % 2 === 1);
      await desk.settle();
    }
    expect((await written(run)) - before).toBeLessThanOrEqual(1);
    await say("a", true);
    desk.clock.pass(JUDGE_MS);
    while (serving(run).length === 0 && desk.clock.nowMs() < 3 * JUDGE_MS && desk.clock.next())
      await desk.settle();
    expect(serving(run)).toEqual(["a"]);
    expect((await written(run)) - before).toBeLessThanOrEqual(2);
  });
});

describe("how often a device takes part", () => {
  const SIX = ["a", "b", "c", "d", "e", "f"];

  test("no more rounds than the plan allows, counted through a restart", async () => {
    const cohort = { min: 3, max: 3 };
    const eligibility = { participation: { maxRounds: 1 } };
    const run = await desk.startRun(
      plan({ rounds: 1, cohort, eligibility, attempts: 1, deadlines: { joinMs: 5000 } }),
    );
    for (const device of SIX) desk.listen(device);
    await finish(run, SIX, () => desk.coordinator.driver(run).header.round === 1);
    const first = await desk.store.participations(run);
    expect(first.filter(({ rounds }) => rounds === 1)).toHaveLength(3);
    await desk.close();
    desk = await Desk.open(place.folder);
    for (const device of SIX) desk.listen(device);
    await finish(run, SIX);
    expect(desk.coordinator.driver(run).header.state).toBe("finished");
    const all = await desk.store.participations(run);
    expect(all.map(({ device, rounds }) => [device, rounds])).toEqual(SIX.map((device) => [device, 1]));
  });

  test("rounds and time between two: the run waits, and no attempt is lost", async () => {
    const wallMs = desk.clock.wallMs();
    Object.assign(desk.clock, { wallMs: () => wallMs + desk.clock.nowMs() });
    const everyMs = 600_000;
    const eligibility = { participation: { everyMs } };
    const run = await desk.startRun(
      plan({ rounds: 1, attempts: 1, eligibility, deadlines: { joinMs: 5000 } }),
    );
    for (const device of ABC) desk.listen(device);
    await finish(run, ABC, () => desk.coordinator.driver(run).header.round === 1);
    const sinceMs = desk.clock.nowMs();
    expect(serving(run)).toEqual([]);
    expect((await statusOf(run)).waiting).toMatch(/^0 of at least 3 .*; 3 are out: in a round not long ago$/);
    await finish(run, ABC);
    const { header } = desk.coordinator.driver(run);
    expect([header.state, header.attempt]).toEqual(["finished", 0]);
    expect(desk.clock.nowMs() - sinceMs).toBeGreaterThanOrEqual(everyMs);
    expect(desk.clock.nowMs() - sinceMs).toBeLessThan(everyMs * 1.1);
  });
});

describe("devices without a stream", () => {
  const ask = (device: string) =>
    desk.devices.checkIn(create(CheckInRequestSchema), callOf(device, "device"));

  test("are here while they ask, take part like others, and hear when to ask again", async () => {
    const { instruction, retry } = await ask("a");
    expect(instruction?.word).toMatchObject({ case: "idle", value: { because: "no run in progress" } });
    expect(retry!.minMs).toBeLessThan(retry!.maxMs);
    const run = await desk.startRun(plan());
    await Promise.all(ABC.map(ask));
    expect(serving(run)).toEqual(ABC);
    while (desk.round?.phase === "gathering") {
      desk.clock.next();
      await desk.settle();
      await Promise.all(ABC.map(ask));
    }
    const [invited] = await Promise.all(ABC.map(ask));
    expect(invited?.instruction?.word.case).toBe("invite");
    // In a round it asks sooner.
    expect(invited?.retry?.maxMs).toBeLessThan(retry!.maxMs);
  });

  test("are gone when they stop asking", async () => {
    await desk.startRun(plan());
    await Promise.all(ABC.map(ask));
    await desk.settle();
    for (let at = 0; at < 20 && desk.coordinator.presence.count > 0; at++) {
      desk.clock.next();
      await desk.settle();
    }
    expect([desk.coordinator.presence.count, desk.round?.connected.size]).toEqual([0, 0]);
  });
});

test("a device of another time is refused by type, and told both versions", async () => {
  const hello = (version: string) =>
    desk.devices.hello(create(HelloRequestSchema, { version }), callOf("a", "device"));
  expect((await hello("0.2.7")).version).toBe("0.1.0");
  expect((await hello("")).retry?.maxMs).toBeGreaterThan(0);
  await expect(hello("0.3.0")).rejects.toMatchObject({ code: "unsupported" });
  await expect(hello("nonsense")).rejects.toMatchObject({ code: "bad-message" });
});

describe("devices that nobody asks", () => {
  /** A whole run by three devices beside so many that it does not ask; what that took. */
  async function cost(idle: number): Promise<{ words: number; told: number; looked: number; asked: number }> {
    const { folder, remove } = temporary();
    desk = await Desk.open(folder);
    const { presence, schedule } = desk.coordinator.dispatch;
    const lines = Array.from({ length: idle }, (_, at) =>
      desk.listen(`idle-${at}`, { labels: { tier: "none" } }),
    );
    for (const device of ABC) desk.listen(device, { labels: { tier: "gold" } });
    await desk.settle();
    const run = await desk.startRun(plan({ eligibility: { labels: { tier: "gold" } } }));
    await desk.settle();
    const heard = () => lines.reduce((sum, { words }) => sum + words.length, 0);
    const [tell, wordTo] = [vi.spyOn(presence, "tell"), vi.spyOn(desk.coordinator.driver(run), "wordTo")];
    const before = { words: heard(), looked: schedule.looked };
    await finish(run, ABC);
    expect(desk.coordinator.driver(run).header.state).toBe("finished");
    const spent = {
      words: heard() - before.words,
      told: tell.mock.calls.length,
      asked: wordTo.mock.calls.length,
      looked: schedule.looked - before.looked,
    };
    await desk.close();
    remove();
    return spent;
  }

  test("hear nothing of a run, and cost nobody anything", async () => {
    await desk.close();
    const [few, many] = [await cost(1), await cost(1500)];
    expect(many.words).toBe(0);
    // The same run takes the same; how commits fall together differs a little.
    expect(many.told).toBeLessThan(few.told * 1.5 + 50);
    expect(many.asked).toBeLessThan(few.asked * 1.5 + 50);
    expect(many.looked).toBeLessThan(few.looked * 1.5 + 50);
    desk = await Desk.open(place.folder);
  });
});

describe("a device that declines for a reason of its own", () => {
  const REASON = "refused: policy, training rows";
  const decline = async (run: string, reason = REASON) => {
    desk.listen("c");
    await desk.gather("a", "b");
    while (desk.round?.phase === "gathering" && desk.clock.next()) await desk.settle();
    expect(desk.round?.phase).toBe("training");
    await desk.answer("a", "b");
    await desk.sendEvent("c", { case: "declined", value: reason });
    await desk.settle();
    return desk.coordinator.driver(run);
  };

  test("costs one attempt; then the run waits for others, and says why", async () => {
    const run = await desk.startRun(plan({ rounds: 1 }));
    const { header } = await decline(run);
    expect([header.state, header.attempt]).toEqual(["running", 1]);
    expect([desk.round?.phase, serving(run)]).toEqual(["gathering", ["a", "b"]]);
    expect((await statusOf(run)).waiting).toBe(
      `2 of at least 3 eligible devices are here; 1 is out: declined: ${REASON}`,
    );
  });

  test("is still the reason when the run fails for want of it", async () => {
    const run = await desk.startRun(plan({ rounds: 1, attempts: 2, deadlines: { joinMs: 10_000 } }));
    const driver = await decline(run);
    for (let turns = 0; driver.header.state === "running" && turns < 20; turns++) {
      desk.clock.next();
      await desk.settle();
    }
    expect(driver.header).toMatchObject({
      state: "failed",
      reason: `round 0, attempt 2 of 2: 2 of at least 3 devices came; 1 is out: declined: ${REASON}`,
    });
  });

  test("is asked again at once when it comes anew, since its site may have changed something", async () => {
    const run = await desk.startRun(plan({ rounds: 1 }));
    await decline(run);
    desk.listen("c");
    await desk.settle();
    expect(serving(run)).toEqual(ABC);
    await finish(run, ABC);
    expect(desk.coordinator.driver(run).header).toMatchObject({
      state: "finished",
      reason: "",
      history: [{}, {}],
    });
  });

  test("is asked again after two joinMs", async () => {
    vi.spyOn(desk.clock, "wallMs").mockImplementation(() => NOW_S * 1000 + desk.clock.nowMs());
    const run = await desk.startRun(plan({ rounds: 1, attempts: 5, deadlines: { joinMs: 10_000 } }));
    await decline(run);
    const fromMs = desk.clock.nowMs();
    while (serving(run).length < 3 && desk.clock.next()) await desk.settle();
    const tookMs = desk.clock.nowMs() - fromMs;
    expect(tookMs).toBeGreaterThanOrEqual(20_000);
    expect(tookMs).toBeLessThanOrEqual(20_000 + Math.ceil(20_000 / 64));
  });

  test("is told of once, however often it says so", async () => {
    const run = await desk.startRun(plan({ rounds: 1 }));
    desk.listen("c");
    await desk.gather("a", "b");
    while (desk.round?.phase === "gathering" && desk.clock.next()) await desk.settle();
    const declined = vi.spyOn(desk.coordinator, "declined");
    for (let time = 0; time < 5; time++) await desk.sendEvent("c", { case: "declined", value: REASON });
    expect(declined).toHaveBeenCalledTimes(1);
    expect(serving(run)).toEqual(["a", "b"]);
  });

  test("is asked again at once after what passes by itself", async () => {
    const run = await desk.startRun(plan({ rounds: 1 }));
    await decline(run, "unavailable: artifact");
    expect(serving(run)).toEqual(ABC);
  });

  test("is not missed where there are others enough", async () => {
    const run = await desk.startRun(plan({ rounds: 2, cohort: { min: 3, max: 4 } }));
    desk.listen("d");
    const driver = desk.coordinator.driver(run);
    await decline(run);
    await finish(run, ["a", "b", "d"]);
    expect(driver.header).toMatchObject({ state: "finished", attempt: 0 });
    expect(driver.header.history.map(({ survivors }) => survivors)).toEqual([3, 3, 3]);
  });
});
