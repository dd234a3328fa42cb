import { Fault } from "@tutti/foundation/fault";
import { rhoAtRisk } from "@tutti/round/price";
import { ListRunsRequestSchema, RunRequestSchema } from "@tutti/wire/admin";
import { create } from "@tutti/wire/message";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { plan, temporary } from "../drive/house.ts";
import { callOf, Desk } from "./desk.ts";

const ABC = ["a", "b", "c"];

describe("a run that is resumed", () => {
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

  const header = (run: string) => desk.coordinator.driver(run).header;
  const resume = (run: string) =>
    desk.owner.resumeRun(create(RunRequestSchema, { run }), callOf("mary", "owner"));
  const notes = async (kind: string) =>
    (await desk.store.auditLines({ from: 0, most: 999 }))
      .map((line) => JSON.parse(line))
      .filter(({ what }) => what === kind);

  const rounds = () => desk.coordinator.drivers().map(({ round }) => round);

  /** Devices answer their words, and time passes when nobody has anything to say, until it is over. */
  async function over(run: string): Promise<void> {
    for (let turn = 0; header(run).state === "running"; turn++) {
      if (turn > 2000) throw new Error(`stuck: ${desk.round?.phase}`);
      const before = rounds();
      await desk.answer(...ABC);
      await desk.settle();
      await new Promise((resolve) => setTimeout(resolve, 1));
      if (rounds().every((round, at) => round === before[at])) desk.clock.next();
      await desk.settle();
    }
  }

  /** A run whose first round failed as often as it may: two of its three devices are busy. */
  async function failed(attempts = 1): Promise<string> {
    const run = await desk.startRun(plan({ rounds: 2, attempts }));
    await desk.gather(...ABC);
    while (header(run).state === "running") {
      const busy = { case: "declined", value: "busy" } as const;
      if (desk.round?.phase === "training") for (const name of ["a", "b"]) await desk.sendEvent(name, busy);
      await desk.settle();
      if (header(run).state === "running") desk.clock.next();
      await desk.settle();
    }
    expect(header(run).state).toBe("failed");
    return run;
  }

  test("goes on with the round that failed, in attempts that nobody made, and finishes", async () => {
    const run = await failed(2);
    const spent = header(run);
    expect(spent).toMatchObject({ round: 0, attempt: 2, version: 0 });
    const status = await resume(run);
    expect(status).toMatchObject({ state: "running", round: 0, attempt: 2 });
    expect(desk.round?.spec).toMatchObject({ attempt: 2, task: { round: 0 } });
    expect((await desk.store.run(run))?.state).toBe("running");
    await over(run);
    expect(header(run)).toMatchObject({ state: "finished", reason: "", attempt: 0, maxAttempts: 0 });
    expect(header(run).history.map(({ survivors }) => survivors)).toEqual([3, 3, 3]);
    const about = { actor: "mary", subject: run, detail: { round: 0, attempt: 2 } };
    expect(await notes("run.resumed")).toMatchObject([about]);
    expect(desk.logged.filter(({ event }) => event === "run.resumed")).toMatchObject([
      { by: "mary", attempt: 2 },
    ]);
  });

  test("has as many attempts again, and says so when they are gone", async () => {
    const run = await failed(2);
    await resume(run);
    for (let left = 2; left > 0; left--) {
      desk.coordinator.driver(run).giveUp("a test");
      await desk.settle();
    }
    expect(header(run)).toMatchObject({ state: "failed", reason: "round 0, attempt 4 of 4: a test" });
  });

  test("was stopped amid a round: no second sum of that attempt is opened", async () => {
    const run = await desk.startRun(plan());
    await desk.gather(...ABC);
    for (let words = 0; words < 4; words++) await desk.answer(...ABC);
    expect(desk.round?.phase).toBe("summing");
    await desk.owner.stopRun(create(RunRequestSchema, { run }), callOf("mary", "owner"));
    expect(await notes("run.stopped")).toMatchObject([{ actor: "mary", subject: run }]);
    expect(await resume(run)).toMatchObject({ state: "running", attempt: 1 });
    expect(desk.round?.spec.attempt).toBe(1);
    await over(run);
    expect(header(run).state).toBe("finished");
  });

  test("is in progress or finished: nothing to do, or refused by name", async () => {
    const run = await desk.startRun(plan());
    const round = desk.round;
    expect(await resume(run)).toMatchObject({ state: "running", attempt: 0 });
    expect(desk.round).toBe(round);
    await desk.gather(...ABC);
    await over(run);
    await expect(resume(run)).rejects.toMatchObject({ code: "conflict" });
    await expect(resume("ff".repeat(32))).rejects.toMatchObject({ code: "not-found" });
    expect(await notes("run.resumed")).toEqual([]);
  });

  test("whose storage fails: it is what is durable, whatever its owner was told", async () => {
    for (const when of ["before", "after"] as const) {
      const run = await failed();
      const commits = desk.weather.count;
      await desk.close();
      // Its devices are gone, so the next write is the resumption.
      desk = await Desk.open(place.folder, [{ at: 0, when, how: "throw" }]);
      expect(commits).toBeGreaterThan(0);
      if (when === "before") await expect(resume(run)).rejects.toMatchObject({ code: "storage" });
      const status = await resume(run);
      expect(status).toMatchObject({ state: "running", attempt: 1 });
      expect((await desk.store.run(run))?.state).toBe("running");
      for (const device of ABC) desk.listen(device);
      await desk.settle();
      await over(run);
      expect(header(run).state).toBe("finished");
      expect(await notes("run.resumed")).toHaveLength(1);
      await desk.close();
      place.remove();
      place = temporary();
      desk = await Desk.open(place.folder);
    }
  });

  /** The next call of a method of the store waits, before or after it is done, until it is let go. */
  function held(name: "run" | "commit", when: "before" | "after") {
    const store = desk.coordinator.parts.store as unknown as Record<string, (...about: unknown[]) => unknown>;
    const act = store[name]!;
    let [reach, letGo] = [() => {}, () => {}];
    const reached = new Promise<void>((resolve) => {
      reach = resolve;
    });
    const free = new Promise<void>((resolve) => {
      letGo = resolve;
    });
    store[name] = async (...about) => {
      store[name] = act;
      const done = when === "after" ? await act(...about) : undefined;
      reach();
      await free;
      return when === "after" ? done : await act(...about);
    };
    return { reached, letGo };
  }

  test("is nobody's until it is known to go on: a stop meanwhile is no stop, and says so", async () => {
    const run = await failed();
    const { reached, letGo } = held("commit", "after");
    const resuming = resume(run);
    await reached;
    const stop = desk.owner.stopRun(create(RunRequestSchema, { run }), callOf("mary", "owner"));
    await expect(stop).rejects.toMatchObject({ code: "unavailable" });
    const late = desk.listen("late");
    await desk.settle();
    expect(late.words.map(({ word }) => word.case)).not.toContain("runOver");
    letGo();
    expect(await resuming).toMatchObject({ state: "running" });
    await desk.coordinator.driver(run).stop();
    expect((await desk.store.run(run))?.state).toBe("stopped");
  });

  test("and cannot be read just then: it stays in its place, and goes on as soon as it can be", async () => {
    for (const lost of [new Fault("storage", "a test"), new RangeError("a test")]) {
      const run = await failed();
      const after = await desk.startRun(plan({ name: "after" }));
      const names = () => desk.coordinator.drivers().map(({ options }) => options.run);
      const order = names();
      const { store } = desk.coordinator.parts;
      const { participations } = store;
      store.participations = () => Promise.reject(lost);
      await expect(resume(run)).rejects.toThrow("a test");
      expect(names()).toEqual(order);
      await expect(resume(run)).rejects.toMatchObject({ code: "unavailable" });
      const { runs } = await desk.owner.listRuns(create(ListRunsRequestSchema), callOf("mary", "owner"));
      expect(runs.map(({ state }) => state)).toEqual(["unavailable", "running"]);
      expect(desk.logged.filter(({ doing }) => doing === "taking up a run")).not.toEqual([]);
      store.participations = participations;
      for (let looks = 0; looks < 3; looks++) {
        desk.clock.next();
        await desk.settle();
      }
      expect(names()).toEqual(order);
      expect(header(run).state).toBe("running");
      for (const one of [run, after]) await desk.coordinator.driver(one).stop();
      await desk.close();
      place.remove();
      place = temporary();
      desk = await Desk.open(place.folder);
    }
  });

  test("while its coordinator is told to stop: nothing of it is driven after that", async () => {
    const run = await failed();
    const { reached, letGo } = held("run", "before");
    const resuming = resume(run);
    await reached;
    const closing = desk.coordinator.close();
    letGo();
    await expect(resuming).rejects.toMatchObject({ code: "unavailable" });
    await closing;
    expect(desk.coordinator.drivers().map(({ round }) => round)).toEqual([null]);
    const starting = desk.startRun(plan({ name: "late" }));
    await expect(starting).rejects.toMatchObject({ code: "unavailable" });
    desk = await reopened();
    expect(header(run)).toMatchObject({ state: "running", attempt: 1 });
  });

  test("has paid for a sum that could be opened when it was stopped, though nobody did", async () => {
    const six = ["a", "b", "c", "d", "e", "f"];
    const privacy = { mode: "distributed", noiseMultiplier: 1 };
    const run = await desk.startRun(plan({ cohort: { min: 6, max: 6 }, privacy }));
    await desk.gather(...six);
    const session = () => {
      const sum = desk.round?.cohorts[0]?.sum;
      return sum?.kind === "secure" ? sum.session : undefined;
    };
    while (session()?.phase !== "revealing") await desk.answer(...six);
    const { threshold } = session()!.group!.graph;
    await desk.answer(...six.slice(0, threshold - 1));
    expect(rhoAtRisk(desk.round!)).toBe(0);
    await desk.answer(six[threshold - 1]!);
    expect(session()?.phase).toBe("revealing");
    await desk.coordinator.driver(run).stop();
    const { rho } = header(run);
    expect(rho).toBeGreaterThan(0);
    await resume(run);
    expect(header(run).rho).toBe(rho);
  });

  const reopened = async () => {
    await desk.store.close();
    return await Desk.open(place.folder);
  };

  test("and then taken up by a coordinator that comes back: its attempts are counted on", async () => {
    const run = await failed();
    await resume(run);
    await desk.close();
    desk = await Desk.open(place.folder);
    expect(header(run)).toMatchObject({ state: "running", attempt: 1, maxAttempts: 2 });
    await desk.gather(...ABC);
    await over(run);
    expect(header(run).state).toBe("finished");
  });

  test("beside another that began meanwhile, with which it shares its devices", async () => {
    const run = await failed();
    const other = await desk.startRun(plan({ name: "other" }));
    await resume(run);
    await over(run);
    await over(other);
    expect([run, other].map((one) => header(one).state)).toEqual(["finished", "finished"]);
  });
});
