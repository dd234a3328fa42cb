import { readTensors } from "@tutti/adapter/formats/safetensors";
import { Fault } from "@tutti/foundation/fault";
import { addInto } from "@tutti/kernels/ring";
import { METRICS } from "@tutti/plan/metrics";
import { openRelease } from "@tutti/release/manifest";
import { readSum } from "@tutti/round/result";
import { type RoundSpec, scaleOf, termsOf } from "@tutti/round/spec";
import { type Combine, combine } from "@tutti/strategy/combine";
import { flatten, layoutOf } from "@tutti/update/layout";
import { steps } from "@tutti/update/quantise";
import { decode } from "@tutti/wire/message";
import { SignedEnvelopeSchema } from "@tutti/wire/release";
import { afterEach, describe, expect, test } from "vitest";
import { NOW_S, TRUST } from "../../../../libs/round/test/cast.ts";
import { openArtifacts } from "../../src/artifacts.ts";
import { openCohorts } from "../../src/drive/open.ts";
import { plan, temporary, wordsOf } from "./house.ts";
import { World } from "./world.ts";

/** Several cohorts in a round, through the real driver, store and secure sums. */

const places: { remove(): void }[] = [];
const open: World[] = [];
afterEach(async () => {
  for (const one of open.splice(0)) await one.close();
  for (const place of places.splice(0)) place.remove();
});

const SEVEN = [..."abcdefg"];
const NINE = [..."abcdefghi"];
const TWO = { min: 3, max: 4, count: 2 };
const THREE = { min: 3, max: 3, count: 3 };

async function world(devices: readonly string[], cohort: Record<string, unknown>): Promise<World> {
  const place = temporary();
  places.push(place);
  const one = new World(place.folder, plan({ cohort, attempts: 1 }), devices);
  open.push(one);
  await one.boot();
  return one;
}

/** Lives until the devices of the first round are dealt; the members of each cohort, and the round's spec. */
async function dealt(one: World): Promise<{ cohorts: string[][]; spec: RoundSpec }> {
  await one.live(() => (one.driver.round?.cohorts.length ?? 0) > 0);
  const { cohorts, spec } = one.driver.round!;
  return { cohorts: cohorts.map(({ sum }) => [...sum.members]), spec };
}

/** The sum of these devices' own words, as the plan reads it. */
function meanOf(one: World, spec: RoundSpec, devices: readonly string[]) {
  const [first, ...others] = devices.map((device) => wordsOf(one.plan, spec.task, device));
  for (const words of others) addInto(first!, words);
  return readSum(spec, first!, { devices: devices.length, size: null });
}

/** What the newest release moved: the first adapter is all zeros, and the rule is FedAvg at rate 1. */
async function moved(one: World): Promise<Float32Array> {
  const artifacts = openArtifacts(`${one.folder}/artifacts`);
  const { tensors } = one.plan;
  const bytes = await artifacts.read(one.driver.header.adapter);
  return flatten(layoutOf(tensors), readTensors(tensors, bytes));
}

/** The numbers of devices that the newest manifest claims. */
async function claimed(one: World): Promise<readonly number[]> {
  const newest = (await one.life.store.releases(one.run)).at(-1)!;
  const envelope = decode(SignedEnvelopeSchema, newest.envelope, 1 << 20);
  return openRelease(envelope, { authority: TRUST.authority, nowS: NOW_S }).release.cohorts;
}

/** The words with another one in every coordinate of the update; weight and metrics stay. */
function inUpdate(words: Uint32Array, word: number): Uint32Array {
  return words.map((honest, at) => (at < words.length - 1 - METRICS.length ? word : honest));
}

function close(got: Float32Array, wanted: Float32Array): void {
  expect(got.length).toBe(wanted.length);
  for (const [at, value] of got.entries()) expect(value).toBeCloseTo(wanted[at]!, 5);
}

describe("a round of two cohorts", () => {
  test("moves the adapter by both means, by weight, and says how many devices were in each", async () => {
    const one = await world(SEVEN, TWO);
    const { cohorts, spec } = await dealt(one);
    expect(cohorts.map(({ length }) => length).sort()).toEqual([3, 4]);
    await one.live();
    const means = cohorts.map((devices) => meanOf(one, spec, devices));
    close(await moved(one), combine(means, "mean"));
    expect(await claimed(one)).toEqual(cohorts.map(({ length }) => length));
    const [trained] = one.driver.header.history;
    expect(trained).toMatchObject({ survivors: 7, examples: 70 });
    expect(trained!.cohorts.map(({ size, dropped }) => [size, dropped])).toEqual(
      cohorts.map(({ length }) => [length, ""]),
    );
  });

  test("goes on without the one that dies, by name", async () => {
    const one = await world(SEVEN, TWO);
    const { cohorts, spec } = await dealt(one);
    const [lost, kept] = cohorts as [string[], string[]];
    for (const device of lost.slice(1)) {
      one.here.delete(device);
      await one.driver.submit(device, { case: "disconnected", value: true });
    }
    await one.live(() => one.driver.header.round === 1);
    close(await moved(one), meanOf(one, spec, kept).mean);
    expect(await claimed(one)).toEqual([kept.length]);
    const [trained] = one.driver.header.history;
    expect(trained!.survivors).toBe(kept.length);
    expect(trained!.cohorts.map(({ size, dropped }) => [size, dropped === ""])).toEqual([
      [0, false],
      [kept.length, true],
    ]);
    expect(trained!.cohorts[0]!.dropped).toContain("advertised");
  });

  test("drops none for a thread that died or for the coordinator's own end", async () => {
    const one = await world(SEVEN, TWO);
    await one.live(() => one.driver.round?.phase === "unmasking");
    const { round } = one.driver;
    const { length } = termsOf(round!.spec);
    const sums = new Map([0, 1].map((at) => [at, new Uint32Array(length)]));
    for (const code of ["unavailable", "cancelled"] as const) {
      const lift = async () => {
        throw new Fault(code, "unmasking thread");
      };
      const unmasking = { lift, pause: () => one.life.clock.turn() };
      const opening = openCohorts(round!, { sums, opened: new Map(), unmasking });
      await expect(opening).rejects.toMatchObject({ code, what: "unmasking thread" });
    }
  });

  test("fails by name when both die", async () => {
    const one = await world(SEVEN, TWO);
    await dealt(one);
    for (const device of SEVEN) one.here.delete(device);
    for (const device of SEVEN) await one.driver.submit(device, { case: "disconnected", value: true });
    await one.live();
    expect(one.driver.header.state).toBe("failed");
    expect(one.driver.header.reason).toContain("0 of at least 1 cohorts are left; cohort 1 of 2: ");
  });

  test("is the same, bit for bit, though the coordinator is killed at any storage operation", {
    timeout: 300_000,
  }, async () => {
    const quiet = await world(SEVEN, TWO);
    await quiet.live();
    const traces = await quiet.traces();
    // What follows is written as with one cohort (durable.test.ts).
    const operations = quiet.life.weather.names.slice(0, quiet.life.weather.names.indexOf("complete") + 1);
    for (const at of operations.keys()) {
      for (const when of ["before", "after"] as const) {
        const place = temporary();
        places.push(place);
        const run = new World(place.folder, quiet.plan, SEVEN);
        await run.boot([{ at, when, how: "hang" }]);
        if (!(await run.live())) {
          await run.kill();
          await run.boot();
          expect(await run.live()).toBe(true);
        }
        expect(await run.traces(), `killed ${when} ${operations[at]} ${at}`).toEqual(traces);
        await run.close();
      }
    }
  });
});

describe("a device that does not clip", () => {
  test("costs its cohort alone: a mean longer than the clip norm is dropped by name", async () => {
    const one = await world(SEVEN, TWO);
    const { cohorts, spec } = await dealt(one);
    const [poisoned, kept] = cohorts as [string[], string[]];
    const beyond = steps(scaleOf(one.plan));
    // The widest honest word in every coordinate, with the weight of ten rows.
    one.lie = (device, words) => (device === poisoned[0] ? inUpdate(words, beyond) : words);
    await one.live();
    close(await moved(one), meanOf(one, spec, kept).mean);
    const [trained] = one.driver.header.history;
    expect(trained!.survivors).toBe(kept.length);
    expect(trained!.cohorts[0]!.dropped).toMatch(/^mean of a cohort: expected L2 norm of at most 10/);
    expect(trained!.cohorts[0]!.size).toBe(poisoned.length);
  });

  test("fails the round by that name where its cohort is the only one", async () => {
    const one = await world(SEVEN, { min: 3, max: 7 });
    const beyond = steps(scaleOf(one.plan));
    one.lie = (device, words) => (device === "a" ? inUpdate(words, beyond) : words);
    await one.live();
    expect(one.driver.header.reason).toContain("mean of a cohort: expected L2 norm of at most 10");
  });
});

describe("a lie in one cohort of three that is short enough to pass", () => {
  /** The result of a round, and the means of the two honest cohorts. */
  async function lied(how: Combine): Promise<{ result: Float32Array; honest: [Float32Array, Float32Array] }> {
    const one = await world(NINE, { ...THREE, combine: how });
    const { cohorts, spec } = await dealt(one);
    const [poisoned, ...others] = cohorts as [string[], string[], string[]];
    // A mean of 2 in every coordinate, where an honest device is within ±0.5.
    const far = Math.round(((2 * 30) / one.plan.update.maxWeight) * steps(scaleOf(one.plan)));
    one.lie = (device, words) => (device === poisoned[0] ? inUpdate(words, far) : words);
    await one.live();
    expect(one.driver.header.history[0]!.cohorts.map(({ dropped }) => dropped)).toEqual(["", "", ""]);
    const [first, second] = others.map((devices) => meanOf(one, spec, devices).mean);
    return { result: await moved(one), honest: [first!, second!] };
  }

  test.each<Combine>(["median", { name: "trimmed-mean", trim: 0.34 }])(
    "moves no coordinate beyond the honest ones: %j",
    async (how) => {
      const { result, honest } = await lied(how);
      const [a, b] = honest;
      for (const [at, value] of result.entries()) {
        expect(value).toBeGreaterThanOrEqual(Math.min(a[at]!, b[at]!) - 1e-6);
        expect(value).toBeLessThanOrEqual(Math.max(a[at]!, b[at]!) + 1e-6);
      }
    },
  );

  test("moves the geometric median no further than four times the honest ones' radius", async () => {
    const { result, honest } = await lied("geometric-median");
    const centre = middle(...honest);
    expect(distance(result, centre)).toBeLessThanOrEqual(4 * distance(honest[0], centre));
  });

  test("moves the mean, which no rule holds", async () => {
    const { result, honest } = await lied("mean");
    const most = result.map((_, at) => Math.max(honest[0][at]!, honest[1][at]!));
    expect(result.every((value, at) => value > most[at]!)).toBe(true);
  });
});

function middle(a: Float32Array, b: Float32Array): Float32Array {
  return a.map((value, at) => (value + b[at]!) / 2);
}

function distance(a: Float32Array, b: Float32Array): number {
  return Math.hypot(...a.map((value, at) => value - b[at]!));
}
