import { sha256Hex } from "@tutti/foundation/hash";
import { metricsOf } from "@tutti/plan/metrics";
import { scaleOf } from "@tutti/round/spec";
import { dequantise } from "@tutti/update/quantise";
import { describe, expect, test } from "vitest";
import type { DeviceEvent } from "../src/events.ts";
import { prepared } from "./mlp.ts";
import type { Script } from "./script.ts";
import { adapterOf, deviceOn, scriptOf, until } from "./scripted.ts";

/** What holds a slow device's training up, until it is opened. */
function gate() {
  let open = () => {};
  const passed = new Promise<void>((resolve) => {
    open = resolve;
  });
  return { open: () => open(), slow: () => passed };
}

const turns = async (count = 50) => {
  for (let turn = 0; turn < count; turn++) await new Promise((resolve) => setImmediate(resolve));
};

describe("a round that goes on without this device", () => {
  const excuse = (script: Script) =>
    script.say({
      case: "excused",
      value: { run: script.run, round: script.task.round, attempt: script.attempt } as never,
    });

  test("ends its training, declines nothing, and trains when it is invited again", async () => {
    const script = scriptOf();
    const stop = new AbortController();
    const { slow, open } = gate();
    const { device, events, kinds } = await deviceOn(script, "ann", { slow });
    const taking = device.participate({ signal: stop.signal });
    await until(() => script.reports.some(({ activity }) => activity === "training"));
    excuse(script);
    await until(() => kinds().includes("excused"));
    open();
    await turns();
    expect(kinds()).not.toContain("trained");
    expect(script.ready).toEqual([]);
    script.again();
    script.tellAll();
    await until(() => script.ready.length === 1);
    stop.abort();
    await taking;
    expect(events.filter(({ kind }) => kind === "refused")).toEqual([]);
    expect(script.declined.size).toBe(0);
  });

  test("keeps what is trained, for another attempt; a word of another round changes nothing", async () => {
    const script = scriptOf();
    script.quorum = 4;
    const stop = new AbortController();
    const { device, kinds } = await deviceOn(script, "ann");
    const taking = device.participate({ signal: stop.signal });
    await until(() => script.ready.length === 1);
    script.say({ case: "excused", value: { run: script.run, round: 7, attempt: 0 } as never });
    excuse(script);
    await until(() => kinds().includes("excused"));
    script.again();
    script.tellAll();
    await until(() => script.ready.length === 1);
    stop.abort();
    await taking;
    expect(kinds().filter((kind) => kind === "trained")).toHaveLength(1);
    expect(kinds().filter((kind) => kind === "excused")).toHaveLength(1);
  });
});

describe("a plan whose updates may be late", () => {
  type Change = Parameters<typeof prepared>[0];
  const plain = { rounds: 5, secureAggregation: { enabled: false } };

  /** Two devices in time, and eve, whose training waits at the gate. */
  async function three(change: Change) {
    const settings = prepared({ ...plain, ...change });
    const script = scriptOf(settings);
    script.quorum = 4;
    const stop = new AbortController();
    const { slow, open } = gate();
    const policy = { requireSecureAggregation: false };
    const [ann, bob, eve] = await Promise.all([
      deviceOn(script, "ann", { policy }),
      deviceOn(script, "bob", { policy }),
      deviceOn(script, "eve", { policy, slow }),
    ]);
    const taking = [ann, bob, eve].map(({ device }) => device.participate({ signal: stop.signal }));
    await until(() => script.here.length === 3);
    let published = 0;
    return {
      script,
      ann,
      eve,
      open,
      /** A round that so many are enough for, and its release; what the devices' words say. */
      round: async (quorum: number, meanwhile = () => {}) => {
        const { round } = script.task;
        const done = script.round();
        script.enough(quorum);
        meanwhile();
        await done;
        await turns();
        script.quorum = 4;
        const adapter = adapterOf(settings, ++published / 8);
        script.publish(adapter, sha256Hex(adapter));
        const length = layoutLength(script, round);
        return (name: string) =>
          dequantise(script.vectors.get(`${round} ${name}`)!, {
            scale: scaleOf(script.plan),
            length,
            devices: 1,
          });
      },
      close: async () => {
        stop.abort();
        await Promise.all(taking);
      },
    };
  }
  const layoutLength = (script: Script, round: number) =>
    script.vectors.get(`${round} ann`)!.length - 1 - scaleOf(script.plan).metrics.length;
  const trained = (events: readonly DeviceEvent[]) =>
    events.flatMap((event) => (event.kind === "trained" ? [event.round] : []));
  const kept = (events: readonly DeviceEvent[]) =>
    events.flatMap((event) => (event.kind === "excused" ? [[event.round, event.keeps]] : []));

  test("has a slow device's update in the next round, weighing less, and once", async () => {
    const change = { staleness: { max: 1 } };
    const inTime = await three(change);
    inTime.open();
    const own = (await inTime.round(3))("eve");
    await inTime.close();

    const late = await three(change);
    await late.round(2);
    expect(late.script.vectors.has("0 eve")).toBe(false);
    const joined = (await late.round(3, late.open))("eve");
    const after = (await late.round(3))("eve");
    await late.close();

    expect(trained(late.eve.events)).toEqual([0, 2]);
    expect(trained(late.ann.events)).toEqual([0, 1, 2]);
    expect(kept(late.eve.events)).toEqual([[0, true]]);
    expect(own.weight).toBeCloseTo(32, 2);
    expect(joined.weight).toBeCloseTo(32 / Math.SQRT2, 2);
    expect(after.weight).toBeCloseTo(32, 2);
    // What it trained for round 0, from that round's release, and what it saw of its rows then.
    expect(metricsOf(joined.metrics).trainLoss).toBeCloseTo(metricsOf(own.metrics).trainLoss, 1);
    expect(metricsOf(joined.metrics).examples).toBeCloseTo(8, 2);
    for (const [at, value] of own.mean.entries()) expect(joined.mean[at]).toBeCloseTo(value, 4);
    expect(late.eve.events.filter(({ kind }) => kind === "refused")).toEqual([]);
  });

  test("has no update that is later than it allows: the device trains anew", async () => {
    const late = await three({ staleness: { max: 1 } });
    await late.round(2);
    await late.round(2);
    const joined = (await late.round(3, late.open))("eve");
    await late.close();
    expect(kept(late.eve.events)).toEqual([
      [0, true],
      [1, false],
    ]);
    expect(trained(late.eve.events)).toEqual([2]);
    expect(joined.weight).toBeCloseTo(32, 2);
  });

  test("with alternating tensors, joins a round of its own and declines the one between", async () => {
    const late = await three({ staleness: { max: 2 }, adapter: { method: "rolora" } });
    await late.round(2);
    await late.round(2);
    expect(late.script.declined.get("eve")).toBe("busy: training for a later round");
    const joined = (await late.round(3, late.open))("eve");
    await late.close();
    expect(trained(late.eve.events)).toEqual([0]);
    expect(joined.weight).toBeCloseTo(32 / Math.sqrt(3), 2);
  });

  test("gives an update to one session: joining a later round closes it", async () => {
    const settings = prepared({ rounds: 5, staleness: { max: 1 } });
    const script = scriptOf(settings);
    const stop = new AbortController();
    const devices = await Promise.all(["ann", "bob", "eve"].map((name) => deviceOn(script, name)));
    const eve = devices[2]!;
    script.holds = (_, { word }) => word.case === "delivery";
    const taking = devices.map(({ device }) => device.participate({ signal: stop.signal }));
    await until(() => script.held.length >= 3);
    // Everybody holds keys and shares, nobody has masked anything.
    script.quorum = 4;
    const adapter = adapterOf(settings);
    script.publish(adapter, sha256Hex(adapter));
    script.tellAll();
    await until(() => script.ready.length === 3);
    for (const { word } of script.held) script.say(word);
    await until(() => eve.kinds().includes("refused"));
    stop.abort();
    await Promise.all(taking);
    expect(script.uploads).toBe(0);
    expect(trained(eve.events)).toEqual([0]);
    const refused = eve.events.flatMap((event) => (event.kind === "refused" ? [event.because.what] : []));
    expect(new Set(refused)).toEqual(new Set(["delivery"]));
  });

  test("keeps nothing for a round that only evaluates", async () => {
    const late = await three({ staleness: { max: 1 }, rounds: 1 });
    await late.round(2);
    const judged = (await late.round(3, late.open))("eve");
    await late.close();
    expect(kept(late.eve.events)).toEqual([[0, false]]);
    expect(trained(late.eve.events)).toEqual([]);
    expect(judged.weight).toBeCloseTo(8, 2);
  });
});
