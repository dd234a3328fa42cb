import { sha256Hex } from "@tutti/foundation/hash";
import { float32, type Tensors } from "@tutti/graph/ir";
import { denied } from "@tutti/identity/denial";
import { metricsOf } from "@tutti/plan/metrics";
import { planBytes } from "@tutti/plan/plan";
import { activeLayout, scaleOf } from "@tutti/round/spec";
import { dequantise } from "@tutti/update/quantise";
import { describe, expect, test } from "vitest";
import type { DeviceEvent } from "../src/events.ts";
import type { Link } from "../src/link.ts";
import { memoryStore } from "../src/store.ts";
import { prepared } from "./mlp.ts";
import { adapterOf, deviceOn, engine, NAMES, scriptOf, settings, until } from "./scripted.ts";

const feeds: Tensors = new Map([["x", float32([1, 4], Float32Array.of(1, 0, 0, 0))]]);

describe("a run, from invitation to the last release", () => {
  test("three devices train, their secure sum opens, the release is merged and answers", async () => {
    const script = scriptOf();
    const devices = await Promise.all(NAMES.map((name) => deviceOn(script, name)));
    const taking = devices.map(({ device }) => device.participate());
    await until(() => script.here.length === 3);
    const sum = await script.round();

    const { plan } = settings;
    const { length } = activeLayout(script);
    const { mean, weight, metrics } = dequantise(sum, { scale: scaleOf(plan), length, devices: 3 });
    // 40 rows each, a fifth held out.
    expect(weight).toBeCloseTo(96, 3);
    expect(metricsOf(metrics).examples).toBeCloseTo(24, 3);
    const losses = devices.flatMap(({ events }) =>
      events.flatMap((event) => (event.kind === "trained" ? [event.loss * event.rows] : [])),
    );
    const engines = devices.flatMap(({ events }) =>
      events.flatMap((event) => (event.kind === "trained" ? [event.engine] : [])),
    );
    expect(engines).toEqual(NAMES.map(() => engine.name));
    expect(engine.name).toMatch(/^tfjs\/./);
    expect(metricsOf(metrics).trainLoss).toBeCloseTo(
      losses.reduce((total, loss) => total + loss, 0),
      0,
    );
    expect(mean.some((value) => value !== 0)).toBe(true);

    const before = (await devices[0]!.device.model().run(feeds)).get("y")!.data;
    expect(devices[0]!.device.model().release).toBeNull();
    const adapter = adapterOf();
    script.publish(adapter, sha256Hex(adapter));
    script.say({ case: "published", value: { run: script.run, manifest: script.parent.envelope } as never });
    await until(() => devices.every(({ kinds }) => kinds().includes("released")));
    const { device } = devices[0]!;
    expect(device.model().release).toEqual({ run: script.run, version: 1, digest: script.digest() });
    expect((await device.model().run(feeds)).get("y")!.data).not.toEqual(before);

    // The last round only evaluates: the update part is empty, the weight counts held-out rows.
    const judged = await script.round();
    const evaluated = dequantise(judged, { scale: scaleOf(plan), length: 0, devices: 3 });
    expect(evaluated.weight).toBeCloseTo(24, 3);
    script.say({ case: "runOver", value: { run: script.run, outcome: "finished", reason: "" } as never });
    for (const done of await Promise.all(taking)) {
      expect(done.runs).toEqual([{ run: script.run, outcome: "finished", reason: "" }]);
    }
    expect(devices.flatMap(({ events }) => events.filter(({ kind }) => kind === "refused"))).toEqual([]);
  });

  test("taking part again waits for a new run, though greeted with the end of the last", async () => {
    const script = scriptOf();
    const store = memoryStore();
    const { device } = await deviceOn(script, "ann", { store });
    // As an invitation leaves it: what a device was never invited to is no run of its own.
    const plan = new TextDecoder().decode(planBytes(settings.plan));
    for (const run of ["aa", "bb"]) await store.putDocument(`plan-${run.repeat(32)}`, plan);
    const over = (run: string) => {
      script.say({ case: "runOver", value: { run, outcome: "finished", reason: "" } as never });
    };
    const first = device.participate();
    await until(() => script.here.length === 1);
    over("aa".repeat(32));
    expect((await first).runs).toHaveLength(1);
    const again = device.participate();
    await until(() => script.here.length === 1);
    over("aa".repeat(32));
    over("cc".repeat(32));
    over("bb".repeat(32));
    expect((await again).runs.map(({ run }) => run)).toEqual(["bb".repeat(32)]);
  });

  test("the same seed and rows give the same sum, whatever the masks were", async () => {
    const sums = [];
    for (const _ of [1, 2]) {
      const script = scriptOf();
      const stop = new AbortController();
      const devices = await Promise.all(NAMES.map((name) => deviceOn(script, name)));
      const taking = devices.map(({ device }) => device.participate({ signal: stop.signal }));
      await until(() => script.here.length === 3);
      sums.push(await script.round());
      stop.abort();
      await Promise.all(taking);
    }
    expect(sums[1]).toEqual(sums[0]);
  });

  test("a new attempt reuses the training, with new keys and the same words", async () => {
    const script = scriptOf();
    script.quorum = 4;
    const stop = new AbortController();
    const devices = await Promise.all(NAMES.map((name) => deviceOn(script, name)));
    const taking = devices.map(({ device }) => device.participate({ signal: stop.signal }));
    await until(() => script.here.length === 3 && devices.every(({ kinds }) => kinds().includes("trained")));
    script.again();
    script.quorum = 3;
    const sum = await script.round();
    stop.abort();
    await Promise.all(taking);
    expect(sum).toBeTruthy();
    for (const { kinds } of devices) expect(kinds().filter((kind) => kind === "trained")).toHaveLength(1);
  });
});

test("whoever was invited to another attempt while it trained answers that one alone", async () => {
  const script = scriptOf();
  script.quorum = 4;
  const link = script.linkFor("ann");
  const attempts: number[] = [];
  const ready: typeof link.ready = async (request) => {
    attempts.push(request.attempt);
    return await link.ready(request);
  };
  script.linkFor = () => ({ ...link, ready });
  let [batches, go] = [0, () => {}];
  const gate = new Promise<void>((resolve) => {
    go = resolve;
  });
  const slow = () => {
    batches++;
    return gate;
  };
  const { device, kinds } = await deviceOn(script, "ann", { slow });
  const stop = new AbortController();
  const taking = device.participate({ signal: stop.signal });
  await until(() => batches > 0);
  script.again();
  script.tellAll();
  // A word that is refused for certain: the invitation before it was taken.
  script.say({ case: "published", value: { run: script.run } } as never);
  await until(() => kinds().includes("refused"));
  go();
  await until(() => script.ready.length === 1);
  expect(attempts).toEqual([1]);
  stop.abort();
  await taking;
});

describe("what goes wrong", () => {
  test("a line that is cut is taken up again, and hears the current word", async () => {
    const script = scriptOf();
    const stop = new AbortController();
    const devices = await Promise.all(NAMES.map((name) => deviceOn(script, name)));
    const taking = devices.map(({ device }) => device.participate({ signal: stop.signal }));
    await until(() => script.here.length === 3);
    const done = script.round();
    for (let times = 0; times < 5; times++) {
      await new Promise((resolve) => setImmediate(resolve));
      for (const name of NAMES) script.cut(name);
    }
    await done;
    stop.abort();
    await Promise.all(taking);
    const states = devices[0]!.events.flatMap((event) => (event.kind === "state" ? [event.state] : []));
    expect(states.slice(0, 3)).toEqual(["connected", "reconnecting", "connected"]);
  });

  test("a device that was told that it is revoked is not connected again by being greeted", async () => {
    const script = scriptOf();
    const link = script.linkFor("ann");
    const revoked = denied("ann", "revoked");
    let isOut = false;
    const own: Partial<Link> = {
      ready: async () => {
        isOut = true;
        throw revoked;
      },
      async *listen(request, signal) {
        if (isOut) throw revoked;
        yield* link.listen(request, signal);
      },
    };
    const { device, events, kinds } = await deviceOn(script, "ann", { link: own });
    const taking = device.participate();
    await until(() => kinds().includes("refused"));
    script.cut("ann");
    await expect(taking).rejects.toBe(revoked);
    const states = events.flatMap((event) => (event.kind === "state" ? [event.state] : []));
    expect(states).toEqual(["connected", "reconnecting"]);
  });

  test("a download goes on where it stopped", async () => {
    const script = scriptOf();
    script.fetchLimit = 300;
    const stop = new AbortController();
    const { device, kinds } = await deviceOn(script, "ann");
    const taking = device.participate({ signal: stop.signal });
    await until(() => kinds().includes("trained"));
    stop.abort();
    await taking;
    const offsets = script.fetches
      .filter(({ sha256 }) => sha256 === settings.plan.base.sha256)
      .map(({ offset }) => offset);
    expect(offsets.slice(0, 3)).toEqual([0, 300, 600]);
  });

  test("what the policy forbids is declined by name alone, and nothing is fetched", async () => {
    const script = scriptOf();
    const stop = new AbortController();
    const { device, events } = await deviceOn(script, "ann", { policy: { methods: ["rolora"] } });
    const taking = device.participate({ signal: stop.signal });
    await until(() => script.declined.has("ann"));
    stop.abort();
    await taking;
    // Whom and what the policy allows is the site's own business, and stays in its own log.
    expect(script.declined.get("ann")).toBe("refused: policy, method");
    const [refused] = events.flatMap((event) => (event.kind === "refused" ? [event.because.message] : []));
    expect(refused).toMatch(/policy, method: expected rolora, got fedit/);
    expect(script.fetches).toEqual([]);
  });

  test("a failure about rows is declined without a number of them", async () => {
    const script = scriptOf();
    const stop = new AbortController();
    const { device } = await deviceOn(script, "ann", { policy: { minExamples: 33 } });
    const taking = device.participate({ signal: stop.signal });
    await until(() => script.declined.has("ann"));
    stop.abort();
    await taking;
    expect(script.declined.get("ann")).toBe("refused: policy, training rows");
  });

  test("a release whose answers are not finite is tried, refused, and the old model stays", async () => {
    const script = scriptOf();
    const stop = new AbortController();
    const store = memoryStore();
    const { device, events, kinds } = await deviceOn(script, "ann", { store });
    const taking = device.participate({ signal: stop.signal });
    await until(() => kinds().includes("trained") && device.model().release === null);
    await until(() => script.reports.some(({ activity }) => activity === "waiting"));
    const good = adapterOf();
    script.publish(good, sha256Hex(good));
    const published = () =>
      script.say({
        case: "published",
        value: { run: script.run, manifest: script.parent.envelope } as never,
      });
    published();
    await until(() => device.model().release?.version === 1);
    const bad = adapterOf(settings, 3e38);
    script.publish(bad, sha256Hex(bad));
    published();
    await until(() => events.some((event) => event.kind === "refused"));
    stop.abort();
    await taking;
    const [refused] = events.flatMap((event) => (event.kind === "refused" ? [event.because.message] : []));
    expect(refused).toMatch(/release 2, trial: expected finite answers/);
    expect(device.model().release?.version).toBe(1);
    expect((await store.pointer()).current).toBe(device.model().release?.digest);
    expect((await device.model().run(feeds)).get("y")!.data.every((value) => Number.isFinite(value))).toBe(
      true,
    );
  });

  test("a release gone back from stays out, through a restart too, until a newer one comes", async () => {
    const script = scriptOf();
    const store = memoryStore();
    const published = () =>
      script.say({
        case: "published",
        value: { run: script.run, manifest: script.parent.envelope } as never,
      });
    const publish = (value: number) => {
      const adapter = adapterOf(settings, value);
      script.publish(adapter, sha256Hex(adapter));
      published();
    };
    const refusedOf = (events: DeviceEvent[]) =>
      events.flatMap((event) => (event.kind === "refused" ? [event.because.message] : []));

    const first = await deviceOn(script, "ann", { store });
    const stop = new AbortController();
    const taking = first.device.participate({ signal: stop.signal });
    await until(() => first.kinds().includes("trained"));
    publish(0.25);
    await until(() => first.device.model().release?.version === 1);
    await first.device.rollback();
    expect(first.device.model().release).toBeNull();
    for (let times = 0; times < 3; times++) published();
    await until(() => refusedOf(first.events).length > 0);
    stop.abort();
    await taking;
    expect(refusedOf(first.events)).toEqual([expect.stringMatching(/^release 1: expected a newer one/)]);
    expect(first.device.model().release).toBeNull();
    await first.device.close();

    const again = await deviceOn(script, "ann", { store });
    const over = new AbortController();
    const resumed = again.device.participate({ signal: over.signal });
    await until(() => script.here.length === 1);
    published();
    await until(() => refusedOf(again.events).length > 0);
    expect(again.device.model().release).toBeNull();
    publish(0.5);
    await until(() => again.device.model().release?.version === 2);
    over.abort();
    await resumed;
    expect(refusedOf(again.events)).toHaveLength(1);
  });

  test("a session on other terms than the device's own gets no keys", async () => {
    const script = scriptOf();
    const stop = new AbortController();
    const { device, events, kinds } = await deviceOn(script, "ann");
    const taking = device.participate({ signal: stop.signal });
    await until(() => kinds().includes("trained"));
    const { termsOf } = await import("@tutti/round/spec");
    for (const change of [{ modelHash: new Uint8Array(32) }, { length: 7 }, { round: 1 }, { plain: true }]) {
      script.say({ case: "openSession", value: { terms: { ...termsOf(script), ...change } } as never });
    }
    await until(() => events.filter(({ kind }) => kind === "refused").length === 4);
    stop.abort();
    await taking;
    for (const event of events)
      if (event.kind === "refused") expect(event.because.message).toMatch(/session's terms/);
  });
});

test("without secure aggregation, where plan and policy say so, the words go up as they are", async () => {
  const plain = prepared({ rounds: 1, secureAggregation: { enabled: false } });
  const sums = [];
  for (const settings of [plain, prepared({ rounds: 1 })]) {
    const script = scriptOf(settings);
    const stop = new AbortController();
    const policy = { requireSecureAggregation: false };
    const devices = await Promise.all(NAMES.map((name) => deviceOn(script, name, { policy })));
    const taking = devices.map(({ device }) => device.participate({ signal: stop.signal }));
    await until(() => script.here.length === 3);
    sums.push(await script.round());
    stop.abort();
    await Promise.all(taking);
  }
  // The masks change nothing but who can read what: the plain sum is the secure one, bit for bit.
  expect(sums[0]).toEqual(sums[1]);
});
