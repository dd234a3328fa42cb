import { Fault } from "@tutti/foundation/fault";
import { seededRandom } from "@tutti/foundation/random";
import type { Plan } from "@tutti/plan/plan";
import { RetryWindowSchema } from "@tutti/wire/device";
import { create } from "@tutti/wire/message";
import { IdleSchema, InstructionSchema, type ListenRequest } from "@tutti/wire/round";
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { returnMs } from "../src/backoff.ts";
import { browserState } from "../src/browser/state.ts";
import { Engagement } from "../src/engaged.ts";
import type { DeviceEvent } from "../src/events.ts";
import { keepLatest } from "../src/kept.ts";
import { listen } from "../src/listen.ts";
import { mustBeEligible, stateOf } from "../src/state.ts";
import { prepared } from "./mlp.ts";
import { deviceOn, NAMES, scriptOf, settings, until } from "./scripted.ts";

describe("coming back", () => {
  const windows = fc.record({
    minMs: fc.integer({ min: 0, max: 60_000 }),
    widthMs: fc.integer({ min: 300, max: 200_000 }),
    attempt: fc.integer({ min: 0, max: 20 }),
  });

  test("spreads devices over the whole window, never sooner, however often they try", () => {
    fc.assert(
      fc.property(windows, ({ minMs, widthMs, attempt }) => {
        const window = create(RetryWindowSchema, { minMs, maxMs: minMs + widthMs });
        const jitter = seededRandom(`${minMs}/${widthMs}/${attempt}`);
        const draws = Array.from({ length: 400 }, () => returnMs(attempt, { jitter }, { window }));
        expect(Math.min(...draws)).toBeGreaterThanOrEqual(minMs);
        // As dense as an even draw over the window at most, but for chance: no tenth of it has too many.
        const tenth = widthMs / 10;
        const counts = new Map<number, number>();
        for (const ms of draws)
          counts.set(Math.floor(ms / tenth), (counts.get(Math.floor(ms / tenth)) ?? 0) + 1);
        expect(Math.max(...counts.values())).toBeLessThanOrEqual(40 + 6 * Math.sqrt(40));
      }),
      { numRuns: 60 },
    );
  });

  test("a coordinator of few devices is looked for twice a second at first, then ever less often", () => {
    const window = create(RetryWindowSchema, { minMs: 100, maxMs: 300 });
    const most = (attempt: number) => {
      const jitter = seededRandom(`${attempt}`);
      return Math.max(...Array.from({ length: 200 }, () => returnMs(attempt, { jitter }, { window })));
    };
    for (let attempt = 0; attempt < 60; attempt++) expect(most(attempt)).toBeLessThanOrEqual(500);
    expect(most(60)).toBeGreaterThan(5_000);
  });

  test("never sooner than a refusal asks for, and not all at once then either", () => {
    const window = create(RetryWindowSchema, { minMs: 100, maxMs: 300 });
    const because = new Fault("unavailable", "coordinator", { retryAfterMs: 10_000 });
    const jitter = seededRandom("asked");
    const draws = Array.from({ length: 200 }, (_, at) => returnMs(at % 8, { jitter }, { window, because }));
    expect(Math.min(...draws)).toBeGreaterThanOrEqual(10_000);
    expect(Math.max(...draws) - Math.min(...draws)).toBeGreaterThan(4_000);
  });

  test("a window of years is an hour", () => {
    const window = create(RetryWindowSchema, { minMs: 2 ** 31, maxMs: 2 ** 32 - 1 });
    expect(returnMs(0, { jitter: seededRandom(1) }, { window })).toBeLessThanOrEqual(3_600_000);
  });

  test("listening says its state each time, keeps to the newest window, tells why it is idle", async () => {
    const stop = new AbortController();
    const said: ListenRequest[] = [];
    const slept: number[] = [];
    const events: DeviceEvent[] = [];
    let connected = 0;
    const retry = create(RetryWindowSchema, { minMs: 40_000, maxMs: 50_000 });
    const idle = create(IdleSchema, { retry, because: "not charging" });
    const link = {
      hello: async () => ({ version: "0.1.0", retry: create(RetryWindowSchema, { minMs: 1, maxMs: 2 }) }),
      listen: async function* (request: ListenRequest) {
        said.push(request);
        yield create(InstructionSchema, { word: { case: "idle", value: idle } });
        if (said.length === 3) stop.abort();
        throw new Fault("unavailable", "the coordinator went");
      },
    };
    const clock = {
      nowMs: () => 0,
      wallMs: () => 0,
      sleep: async (ms: number) => void slept.push(ms),
      turn: async () => {},
    };
    await listen({
      link: link as never,
      patience: { clock, jitter: seededRandom("listen") },
      emit: (event) => events.push(event),
      hear: () => {},
      signal: stop.signal,
      greeted: () => connected++,
      state: () => stateOf({ state: () => ({ charging: said.length > 0 }), engines: ["tfjs"] }),
    });
    expect(said.map(({ state }) => [state?.charging, state?.unmetered, state?.engines])).toEqual([
      [false, undefined, ["tfjs"]],
      [true, undefined, ["tfjs"]],
      [true, undefined, ["tfjs"]],
    ]);
    expect(slept.every((ms) => ms >= 40_000 && ms <= 50_000)).toBe(true);
    expect([connected, events.filter(({ kind }) => kind === "idle").length]).toEqual([3, 3]);
  });

  test("a coordinator of another time is refused by type", async () => {
    const link = { hello: async () => ({ version: "0.9.0" }), listen: async function* () {} };
    const clock = { nowMs: () => 0, wallMs: () => 0, sleep: async () => {}, turn: async () => {} };
    const patience = { clock, jitter: seededRandom(1) };
    const { signal } = new AbortController();
    const listening = listen({ link: link as never, patience, emit: () => {}, hear: () => {}, signal });
    await expect(listening).rejects.toMatchObject({
      code: "unsupported",
      what: "version of the coordinator",
    });
  });
});

describe("what a device says of itself", () => {
  test("only what it knows; a provider that fails knows nothing", async () => {
    const failing = await stateOf({ state: () => Promise.reject(new Error("no battery")) });
    expect([failing.charging, failing.sdk, failing.engines]).toEqual([undefined, "0.1.0", []]);
    const odd = await stateOf({ state: () => ({ charging: "yes" }) as never });
    expect(odd.charging).toBeUndefined();
  });

  test("in a browser: battery and network, where there are any", async () => {
    expect((await browserState(() => {}, { navigator: {} }))()).toEqual({});
    const battery = Object.assign(new EventTarget(), { charging: true });
    const connection = Object.assign(new EventTarget(), { type: "wifi", saveData: false });
    let changes = 0;
    const state = await browserState(() => changes++, {
      navigator: { getBattery: async () => battery, connection },
    });
    expect(state()).toEqual({ charging: true, unmetered: true });
    battery.charging = false;
    connection.type = "cellular";
    battery.dispatchEvent(new Event("chargingchange"));
    connection.dispatchEvent(new Event("change"));
    expect([state(), changes]).toEqual([{ charging: false, unmetered: false }, 2]);
  });

  test("conditions that it checks itself are all refused in the same word", async () => {
    const subject = async (eligibility: Plan["eligibility"], rows: number, charging: boolean) =>
      mustBeEligible(eligibility ? { eligibility } : {}, { state: () => ({ charging }) }, rows).then(
        () => "fine",
        ({ code, what }: Fault) => `${code}: ${what}`,
      );
    const wanted = { minExamples: 20, charging: true, labels: { region: "north" } };
    expect(await subject(undefined, 0, false)).toBe("fine");
    expect(await subject(wanted, 20, true)).toBe("fine");
    expect(await subject(wanted, 19, true)).toBe("refused: eligibility");
    expect(await subject(wanted, 20, false)).toBe("refused: eligibility");
  });

  test("one with too few rows declines, and its count stays where it is", async () => {
    const few = { ...settings, plan: { ...settings.plan, eligibility: { minExamples: 1000 } } };
    const script = scriptOf(few);
    const stop = new AbortController();
    const { device, events } = await deviceOn(script, "ann", { rows: 37 });
    const taking = device.participate({ signal: stop.signal });
    await until(() => script.declined.size > 0);
    expect([...script.declined.values()]).toEqual(["refused: eligibility"]);
    expect(events.find(({ kind }) => kind === "refused")).toBeDefined();
    stop.abort();
    await taking;
  });
});

describe("one run's round at a time", () => {
  test("another run is declined until the first is over", () => {
    const engaged = new Engagement();
    engaged.enter("a");
    engaged.enter("a");
    expect(() => engaged.enter("b")).toThrow(/another run's round/);
    engaged.leave("b");
    expect(() => engaged.enter("b")).toThrow(Fault);
    engaged.leave("a");
    engaged.enter("b");
    engaged.reset();
    engaged.enter("a");
  });

  test("a coordinator that asks for both is told no, and the round that is on goes on", async () => {
    const script = scriptOf();
    const other = scriptOf(prepared({ rounds: 1, name: "another" }));
    const stop = new AbortController();
    const devices = await Promise.all(NAMES.map((name) => deviceOn(script, name)));
    const taking = devices.map(({ device }) => device.participate({ signal: stop.signal }));
    await until(() => script.here.length === 3);
    const sum = script.round();
    script.say(other.invitation().word);
    await until(() => script.declined.size === 3);
    expect(new Set(script.declined.values())).toEqual(new Set(["conflict: another run's round"]));
    expect((await sum).length).toBeGreaterThan(0);
    // What was merely too soon is no refusal to tell the app of.
    expect(devices.flatMap(({ kinds }) => kinds()).includes("refused")).toBe(false);
    // Once a device hears that the first round is over, it is free.
    script.declined.clear();
    script.say({ case: "published", value: { run: script.run, manifest: script.parent.envelope } as never });
    const trained = () =>
      devices.every(({ kinds }) => kinds().filter((kind) => kind === "trained").length === 2);
    script.say(other.invitation().word);
    await until(trained);
    expect(script.declined.size).toBe(0);
    stop.abort();
    await Promise.all(taking);
  });

  test("whoever lost the stream in one run's round is free for another's on the next", async () => {
    const script = scriptOf();
    const other = scriptOf(prepared({ rounds: 1, name: "another" }));
    const stop = new AbortController();
    const { device, kinds } = await deviceOn(script, "ann");
    const taking = device.participate({ signal: stop.signal });
    const trained = () => kinds().filter((kind) => kind === "trained").length;
    await until(() => script.ready.length === 1);
    script.cut("ann");
    await until(() => script.here.length === 0);
    await until(() => script.here.length === 1);
    script.say(other.invitation().word);
    await until(() => trained() === 2 || script.declined.size > 0);
    expect([...script.declined.values()]).toEqual([]);
    stop.abort();
    await taking;
  });

  test("trainers of two runs are kept, and none is let go of while it works", async () => {
    const dropped: string[] = [];
    const busy = new Set<string>();
    const made: string[] = [];
    const kept = keepLatest({
      most: 2,
      make: async ({ name }) => {
        made.push(name);
        return name;
      },
      drop: async (name) => void dropped.push(name),
      inUse: (name) => busy.has(name),
    });
    const get = (name: string) => kept.get({ name } as Plan);
    await get("a");
    await get("b");
    await get("a");
    expect([made, dropped]).toEqual([["a", "b"], []]);
    busy.add("b");
    await get("c");
    expect(dropped).toEqual(["a"]);
    busy.add("c");
    await get("a");
    expect(dropped).toEqual(["a"]);
    await kept.close();
    expect(dropped.sort()).toEqual(["a", "a", "b", "c"]);
  });
});
