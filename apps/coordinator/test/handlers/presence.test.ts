import type { Fault } from "@tutti/foundation/fault";
import { create } from "@tutti/wire/message";
import { InstructionSchema } from "@tutti/wire/round";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { GRACE_MS, Presence } from "../../src/drive/presence.ts";
import { plan, TestClock, temporary } from "../drive/house.ts";
import { Desk } from "./desk.ts";

const ABC = ["a", "b", "c"];
const NOBODY = { onCame: () => {}, onGone: () => {} };
const idle = (retryAfterMs: number) =>
  create(InstructionSchema, { word: { case: "idle", value: { retryAfterMs } } });

describe("a device's line", () => {
  test("says the newest word only, and never the same one twice in a row", async () => {
    const presence = new Presence(NOBODY, new TestClock());
    const stop = new AbortController();
    const line = presence.listen("a", stop.signal);
    const first = line.next();
    presence.tell("a", "", idle(1));
    expect((await first).value).toEqual(idle(1));
    presence.tell("a", "", idle(2));
    presence.tell("a", "", idle(3));
    presence.tell("a", "", idle(2));
    presence.tell("a", "", idle(2));
    expect((await line.next()).value).toEqual(idle(2));
    const next = line.next();
    presence.tell("a", "", idle(2));
    stop.abort();
    expect((await next).done).toBe(true);
    presence.close();
  });

  test("says what is asked of a device after all that tells it that it is free", async () => {
    const presence = new Presence(NOBODY, new TestClock());
    const stop = new AbortController();
    const line = presence.listen("a", stop.signal);
    const first = line.next();
    presence.tell("a", "x", idle(0));
    await first;
    const news = (run: string) => create(InstructionSchema, { word: { case: "published", value: { run } } });
    presence.tell("a", "one", news("one"));
    presence.tell("a", "two", idle(2));
    // A release of the first in between does not fall behind what the second asks.
    presence.tell("a", "one", news("one again"));
    expect((await line.next()).value).toEqual(news("one again"));
    presence.tell("a", "one", news("one more"));
    presence.tell("a", "two", news("two"));
    presence.tell("a", "one", idle(1));
    expect([(await line.next()).value, (await line.next()).value]).toEqual([news("two"), idle(1)]);
    stop.abort();
    presence.close();
  });

  test("tells who came and, after the grace period, who went", async () => {
    const said: string[] = [];
    const clock = new TestClock();
    const events = {
      onCame: (device: string) => said.push(`${device} came`),
      onGone: (device: string) => said.push(`${device} went`),
    };
    const presence = new Presence(events, clock);
    const stop = new AbortController();
    const ended = presence.listen("a", stop.signal).next();
    stop.abort();
    await ended;
    expect([presence.isConnected("a"), presence.present()]).toEqual([false, ["a"]]);
    expect(said).toEqual(["a came"]);
    clock.next();
    await clock.turn();
    expect(clock.nowMs()).toBe(GRACE_MS);
    expect(said).toEqual(["a came", "a went"]);
    expect(presence.present()).toEqual([]);
  });
});

test("a word that no message can hold is not said", async () => {
  const presence = new Presence(NOBODY, new TestClock());
  const stop = new AbortController();
  const heard = presence.listen("a", stop.signal).next();
  const plan = { payload: new Uint8Array(1 << 20) };
  const long = create(InstructionSchema, { word: { case: "invite", value: { plan } } });
  expect([
    presence.tell("b", "", long),
    presence.tell("a", "", long),
    presence.tell("a", "", idle(1)),
  ]).toEqual([true, false, true]);
  expect((await heard).value).toEqual(idle(1));
  stop.abort();
  presence.close();
});

describe("a coordinator", () => {
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

  /** To the end of the run, whatever it takes. */
  async function finish(): Promise<void> {
    while (desk.driver?.round) {
      await desk.answer(...ABC);
      await desk.settle();
      await new Promise((resolve) => setTimeout(resolve, 1));
      if (desk.round?.phase === "gathering") desk.clock.next();
    }
  }

  test("a second Listen ends the first, and the device was never away", async () => {
    await desk.startRun(plan());
    const [first] = await desk.gather(...ABC);
    const second = desk.listen("a");
    await desk.settle();
    expect([first?.ended, second.ended]).toEqual([true, false]);
    expect(second.words.map(({ word }) => word.case)).toEqual(["invite"]);
    expect(desk.coordinator.presence.isConnected("a")).toBe(true);
    first?.call.stop.abort();
    await desk.settle();
    expect(desk.round?.connected.has("a")).toBe(true);
    const { entries } = (await desk.state()) as { entries: number };
    expect(entries).toBe(5);
  });

  test("two runs, one after the other, for devices that stay", async () => {
    const run = await desk.startRun(plan());
    const [line] = await desk.gather(...ABC);
    await finish();
    expect(desk.coordinator.driver(run).header.state).toBe("finished");
    expect(line?.words.at(-1)?.word.case).toBe("runOver");
    const next = await desk.startRun(plan({ name: "other" }));
    await desk.settle();
    while (desk.round?.phase === "gathering" && desk.clock.next()) await desk.settle();
    expect(line?.words.at(-1)?.word.case).toBe("invite");
    await finish();
    expect(desk.coordinator.driver(next).header.history.map(({ survivors }) => survivors)).toEqual([3, 3]);
    expect(desk.coordinator.driver(next).header.version).toBe(1);
  });

  test("a plan that is sent twice at once is one run", async () => {
    const [one, other] = await Promise.all([desk.startRun(plan()), desk.startRun(plan())]);
    expect(one).toBe(other);
    expect(desk.coordinator.drivers()).toHaveLength(1);
  });

  test("a start that storage did not confirm can be repeated", async () => {
    // Operations: 0 adds the run, 1 writes its first header and release.
    for (const at of [0, 1]) {
      for (const when of ["before", "after"] as const) {
        const other = temporary();
        const unlucky = await Desk.open(other.folder, [{ at, when, how: "throw" }]);
        const code = await unlucky.startRun(plan()).catch((fault: Fault) => fault.code);
        expect(code, `${when} ${at}`).toBe("storage");
        const run = await unlucky.startRun(plan());
        expect(unlucky.coordinator.driver(run).header.state).toBe("running");
        await unlucky.close();
        other.remove();
      }
    }
  });

  test("whose word is too long for one message fails the round by name, and keeps the lines", async () => {
    await desk.startRun(plan({ attempts: 2 }));
    const driver = desk.driver!;
    const planEnvelope = { ...driver.options.planEnvelope, payload: new Uint8Array(1 << 20) };
    Object.assign(driver.options, { planEnvelope });
    const lines = await desk.gather(...ABC);
    while (desk.round && desk.clock.next()) await desk.settle();
    expect(driver.header).toMatchObject({ state: "failed" });
    expect(driver.header.reason).toMatch(/the word to \w is longer than 1047552 bytes/);
    expect(lines.map(({ ended }) => ended)).toEqual([false, false, false]);
  });

  test("takes no plan that an invitation cannot hold", async () => {
    const tensors = Array.from({ length: 9_000 }, (_, at) => ({
      name: `${at}`.padEnd(60, "x"),
      shape: [1, 1],
    }));
    await expect(desk.startRun(plan({ tensors }))).rejects.toThrow("plan: expected at most 524288 bytes");
    expect(desk.coordinator.drivers()).toEqual([]);
  });
});
