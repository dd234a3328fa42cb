import { mkdirSync } from "node:fs";
import { join } from "node:path";
import { create } from "@tutti/wire/message";
import { ReadyRequestSchema } from "@tutti/wire/round";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { openSqlite } from "../../src/store/open.ts";
import { plan, temporary } from "../drive/house.ts";
import { callOf, Desk } from "./desk.ts";

const SIX = ["a", "b", "c", "d", "e", "f"];

describe("several runs at once", () => {
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

  const state = (run: string) => desk.coordinator.driver(run).header.state;
  const running = () => desk.coordinator.drivers().filter(({ header }) => header.state === "running");
  const begun = () => running().filter(({ round }) => round && round.phase !== "gathering");

  /** Every device that has a word answers it, once; time passes only when nobody has anything to say. */
  async function turn(devices: readonly string[], at: Desk): Promise<void> {
    const before = running().map(({ round }) => round);
    for (const device of devices) await at.answer(device);
    await at.settle();
    await new Promise((resolve) => setTimeout(resolve, 1));
    if (running().every(({ round }, i) => round === before[i])) at.clock.next();
    await at.settle();
  }

  async function until(done: () => boolean, devices: readonly string[] = SIX): Promise<void> {
    const at = desk;
    for (let count = 0; !done(); count++) {
      if (count > 2000) throw new Error(`stuck: ${running().map(({ round }) => round?.phase)}`);
      await turn(devices, at);
    }
  }

  /** No device is counted on by two rounds at the same time. */
  function apart(): void {
    const going = begun().filter(({ round }) => round?.phase !== "unmasking");
    const busy = going.flatMap(({ round }) => [...(round?.connected ?? [])]);
    expect(new Set(busy).size).toBe(busy.length);
  }

  test("two that need three each share six devices, and both finish", async () => {
    for (const device of SIX) desk.listen(device);
    await desk.settle();
    const cohort = { min: 3, max: 3 };
    const [one, two] = [
      await desk.startRun(plan({ name: "one", cohort })),
      await desk.startRun(plan({ name: "two", cohort })),
    ];
    let together = 0;
    await until(() => {
      apart();
      if (begun().length === 2) together++;
      return running().length === 0;
    });
    expect([state(one), state(two)]).toEqual(["finished", "finished"]);
    expect(together).toBeGreaterThan(0);
  });

  test("one in progress is told of when it is taken up, and one that is over is not", async () => {
    const over = await desk.startRun(plan({ name: "over" }));
    await desk.coordinator.driver(over).stop();
    const run = await desk.startRun(plan({ name: "on" }));
    await desk.gather("a", "b", "c");
    const taken = () => desk.logged.filter(({ event }) => event === "run.taken");
    expect(taken()).toEqual([]);
    await desk.close();
    desk = await Desk.open(place.folder);
    const about = { level: "info", run: run.slice(0, 12), round: 0, attempt: 0, phase: "training" };
    expect(taken()).toMatchObject([about]);
  });

  test("how soon a device answers counts while it serves the run that it said it for", async () => {
    const three = SIX.slice(0, 3);
    for (const device of three) desk.listen(device);
    await desk.settle();
    const { dispatch, presence } = desk.coordinator;
    const cohort = { min: 3, max: 3 };
    const one = await desk.startRun(plan({ name: "one", cohort }));
    await until(() => begun().length === 1, three);
    const { round = 0, attempt = 0 } = { ...desk.round?.spec.task, attempt: desk.round?.spec.attempt };
    const ready = (device: string, answersWithinMs: number, more = {}) => {
      const said = create(ReadyRequestSchema, { run: one, round, attempt, answersWithinMs, ...more });
      return desk.devices.ready(said, callOf(device, "device"));
    };
    await expect(ready("a", 1_000, { attempt: attempt + 1 })).rejects.toMatchObject({ code: "conflict" });
    expect(presence.answering.size).toBe(0);
    for (const device of three) await ready(device, device === "c" ? 0 : 2_000);
    expect([...dispatch.serving()].sort()).toEqual([
      ["a", 2_000],
      ["b", 2_000],
      ["c", 0],
    ]);
    await until(() => running().length === 0, three);
    expect([...dispatch.serving()]).toEqual([]);
    const two = await desk.startRun(plan({ name: "two", cohort }));
    await until(() => begun().length === 1, three);
    expect(dispatch.schedule.serving(two)).toEqual(new Set(three));
    // Who said it of the other run is measured, and not cut.
    expect([...dispatch.serving()].sort()).toEqual(three.map((device) => [device, 0]));
  });

  test("two that need all there are take turns, and waiting is no failure", async () => {
    const three = SIX.slice(0, 3);
    for (const device of three) desk.listen(device);
    const rounds = { rounds: 2, attempts: 1, deadlines: { joinMs: 100 } };
    const one = await desk.startRun(plan({ name: "one", ...rounds }));
    await until(() => begun().length === 1, three);
    const two = await desk.startRun(plan({ name: "two", ...rounds }));
    // Far more than its joinMs passes while the other has everybody.
    for (let at = 0; at < 20; at++) {
      desk.clock.pass(60);
      desk.clock.next();
      await desk.settle();
    }
    expect([state(two), desk.coordinator.driver(two).header.attempt]).toEqual(["running", 0]);
    expect(desk.coordinator.dispatch.schedule.waits(two)).toBe(true);
    const order: string[] = [];
    await until(() => {
      // A round whose sum is being opened has let go of its devices.
      const now = begun().find(({ round }) => round?.phase !== "unmasking");
      apart();
      const name = now?.options.plan.name;
      if (name && order.at(-1) !== name) order.push(name);
      return running().length === 0;
    }, three);
    expect([state(one), state(two)]).toEqual(["finished", "finished"]);
    // Three rounds each, of which one evaluates; the second run is not kept until the first is over.
    expect(order.slice(0, 4)).toEqual(["one", "two", "one", "two"]);
  });

  test("a run that fails or is stopped gives its devices to the others", async () => {
    for (const device of SIX.slice(0, 3)) desk.listen(device);
    const one = await desk.startRun(plan({ name: "one", attempts: 1 }));
    await until(() => begun().length === 1, []);
    const two = await desk.startRun(plan({ name: "two" }));
    await desk.coordinator.driver(one).stop();
    await until(() => running().length === 0, SIX.slice(0, 3));
    expect([state(one), state(two)]).toEqual(["stopped", "finished"]);
  });

  test("one that is stopped while it is being read is stopped, whatever was read", async () => {
    const { dispatch } = desk.coordinator;
    const add = dispatch.add.bind(dispatch);
    let stopping: Promise<void> = Promise.resolve();
    dispatch.add = (driver, past) => {
      add(driver, past);
      const { store } = driver.options;
      const read = store.read.bind(store);
      store.read = async () => {
        const met = await read();
        stopping = driver.stop();
        await desk.settle();
        return met;
      };
    };
    const run = await desk.startRun(plan());
    await stopping;
    for (const device of SIX) desk.listen(device);
    await desk.settle();
    expect([state(run), (await desk.store.run(run))?.state]).toEqual(["stopped", "stopped"]);
    expect(begun()).toEqual([]);
  });

  test("devices hear how the run that they served ended, also after they served another", async () => {
    const lines = SIX.slice(0, 3).map((device) => desk.listen(device));
    const one = await desk.startRun(plan({ name: "one" }));
    const two = await desk.startRun(plan({ name: "two" }));
    await until(() => running().length === 0, SIX.slice(0, 3));
    for (const { words } of lines) {
      const over = words.flatMap(({ word }) => (word.case === "runOver" ? [word.value.run] : []));
      expect(over.sort()).toEqual([one, two].sort());
    }
  });

  test("after a restart both go on where they were, whoever comes back first", async () => {
    for (const device of SIX) desk.listen(device);
    const cohort = { min: 3, max: 3 };
    const [one, two] = [
      await desk.startRun(plan({ name: "one", cohort })),
      await desk.startRun(plan({ name: "two", cohort })),
    ];
    await until(() => begun().length === 2, []);
    const before = [one, two].map((run) => [...desk.coordinator.driver(run).round!.invited].sort());
    await desk.close();
    desk = await Desk.open(place.folder);
    for (const device of [...SIX].reverse()) desk.listen(device);
    await desk.settle();
    const after = [one, two].map((run) => [...desk.coordinator.dispatch.schedule.serving(run)].sort());
    expect(after).toEqual(before);
    await until(() => {
      apart();
      return running().length === 0;
    });
    expect([state(one), state(two)]).toEqual(["finished", "finished"]);
  });

  test("killed between any two writes, both runs finish, and no device is in two rounds", async () => {
    // A few of the many places: each is a process that ends before or after a transaction.
    for (const at of [3, 9, 16, 24, 33]) {
      const when = at % 2 === 0 ? "before" : "after";
      const { folder, remove } = temporary();
      const doomed = await Desk.open(folder, [{ at, when, how: "hang" }]);
      await desk.close();
      desk = doomed;
      for (const device of SIX) desk.listen(device);
      const cohort = { min: 3, max: 3 };
      const start = async () => {
        for (const name of ["one", "two"]) await desk.startRun(plan({ name, cohort }));
      };
      const ended = start().then(() => until(() => doomed.weather.dead || running().length === 0));
      await Promise.race([ended, doomed.weather.died]);
      expect(doomed.weather.dead).toBe(true);
      await doomed.store.close();
      desk = await Desk.open(folder);
      desk.players = doomed.players;
      for (const device of SIX) desk.listen(device);
      await start();
      await until(() => {
        apart();
        return running().length === 0;
      });
      const headers = desk.coordinator.drivers().map(({ header }) => [header.state, header.history.length]);
      expect(headers, `killed ${when} write ${at}`).toEqual([
        ["finished", 2],
        ["finished", 2],
      ]);
      await desk.close();
      remove();
    }
    desk = await Desk.open(place.folder);
  });

  test("a run whose journal cannot be read holds up no other", async () => {
    const one = await desk.startRun(plan({ name: "one" }));
    const two = await desk.startRun(plan({ name: "two" }));
    await desk.close();
    await damage(one, place.folder);
    mkdirSync(join(place.folder, "artifacts"), { recursive: true });
    desk = await Desk.open(place.folder);
    // It may be given back later: until then nobody is told that there is no such run.
    expect(() => desk.coordinator.find(one)).toThrow("Ask again");
    for (const device of SIX.slice(0, 3)) desk.listen(device);
    await until(() => running().length === 0, SIX.slice(0, 3));
    expect(state(two)).toBe("finished");
  });

  test("a run that is taken up late has its place among the others", async () => {
    const runs: string[] = [];
    for (const name of ["one", "two"]) runs.push(await desk.startRun(plan({ name })));
    await desk.close();
    desk = await Desk.open(place.folder, [{ at: 0, when: "before", how: "throw" }], ["participations"]);
    const order = () => desk.coordinator.drivers().map(({ options }) => options.run);
    expect(order()).toEqual(runs.slice(1));
    for (let looks = 0; looks < 3; looks++) {
      desk.clock.next();
      await desk.settle();
    }
    expect(order()).toEqual(runs);
    const three = await desk.startRun(plan({ name: "three" }));
    expect(order()).toEqual([...runs, three]);
  });

  test("the only run there is, and damaged: it is told of, and another can be started", async () => {
    const bytes = new Uint8Array([255]);
    for (const state of ["finished", "running"]) {
      await desk.store.addRun({ run: `damaged ${state}`, name: state, plan: bytes, header: bytes, state });
      await desk.close();
      desk = await Desk.open(place.folder);
      expect(desk.coordinator.drivers()).toEqual([]);
    }
    const run = await desk.startRun(plan());
    for (const device of SIX.slice(0, 3)) desk.listen(device);
    await until(() => running().length === 0, SIX.slice(0, 3));
    expect(state(run)).toBe("finished");
  });

  test("storage that gives back none of the runs just now is no coordinator to be", async () => {
    const { folder, remove } = temporary();
    const unlucky = await Desk.open(folder);
    const run = await unlucky.startRun(plan());
    await unlucky.close();
    await damage(run, folder);
    await expect(Desk.open(folder)).rejects.toMatchObject({ code: "storage" });
    remove();
  });
});

/** An entry of a run's journal whose predecessors are gone. */
async function damage(run: string, folder: string): Promise<void> {
  const engine = await openSqlite({ file: join(folder, "tutti.sqlite") });
  const entry = { run, seq: 7, entry: new Uint8Array([1]), epoch: 1 };
  await engine.db.insertInto("journal").values(entry).execute();
  await engine.close();
}
