import { readTensors } from "@tutti/adapter/formats/safetensors";
import { seededRandom } from "@tutti/foundation/random";
import { longestRoundMs } from "@tutti/round/longest";
import { flatten, layoutOf } from "@tutti/update/layout";
import { type Task, Task_Kind } from "@tutti/wire/round";
import { afterEach, describe, expect, test } from "vitest";
import { openArtifacts } from "../../src/artifacts.ts";
import { plan, temporary, wordsOf } from "./house.ts";
import { World } from "./world.ts";

/** Devices that train for as long as a test says, on a real driver's virtual clock. */

const places: { remove(): void }[] = [];
const open: World[] = [];
afterEach(async () => {
  for (const one of open.splice(0)) await one.close();
  for (const place of places.splice(0)) place.remove();
});

const FIVE = [..."abcde"];
const TRAIN_MS = 10_000;
const ROUNDS = 4;
const FOUR_OF_FIVE = { min: 3, max: 5, target: 4, overInvite: 1.25 };

type Training = { readonly task: Task; readonly done: Promise<void>; given: boolean };

/** A run of five, of whom e takes half as long again; who trains on answers with it as the plan allows. */
async function run(change: Parameters<typeof plan>[0], devices: readonly string[] = FIVE) {
  const place = temporary();
  places.push(place);
  const one = new World(place.folder, plan({ rounds: ROUNDS, ...change }), devices);
  open.push(one);
  const most = one.plan.staleness?.max ?? 0;
  const at = new Map<string, Training>();
  one.trains = async (device, task) => {
    const held = at.get(device);
    const late = held ? task.round - held.task.round : 0;
    const joins = late <= most && (late === 0 || task.kind === Task_Kind.TRAIN);
    if (held && !held.given && joins) return await held.done;
    const ms = device === "e" ? 1.5 * TRAIN_MS : TRAIN_MS;
    const training = { task, done: one.life.clock.sleep(ms), given: false };
    at.set(device, training);
    await training.done;
  };
  /** "round device" of each vector that is in a sum, with the round that it was trained for. */
  const summed = new Map<string, number>();
  one.words = (device, task) => {
    const training = at.get(device);
    const begun = training?.task ?? task;
    if (training && one.driver.round?.phase === "summing") {
      training.given = true;
      summed.set(`${task.round} ${device}`, begun.round);
    }
    return wordsOf(one.plan, begun, device, one.rows, task.round - begun.round);
  };
  await one.boot();
  const ends: number[] = [];
  for (let round = 0; round < ROUNDS; round++) {
    await one.live(() => one.driver.header.round > round);
    ends.push(one.life.clock.nowMs());
  }
  await one.live();
  expect(one.driver.header.state, one.driver.header.reason).toBe("finished");
  return { one, ends, summed: [...summed].map(([where, begun]) => ({ where, begun })) };
}

/** What the rounds moved, worked out slowly: for each the mean of floats, by rows and lateness. */
function twin(one: World, summed: readonly { where: string; begun: number }[]): Float64Array {
  const { length } = layoutOf(one.plan.tensors);
  const total = new Float64Array(length);
  for (let round = 0; round < ROUNDS; round++) {
    const mean = new Float64Array(length);
    let weights = 0;
    for (const { where, begun } of summed) {
      const [of, device] = where.split(" ");
      if (Number(of) !== round) continue;
      const weight = one.rows / Math.sqrt(1 + round - begun);
      weights += weight;
      const chance = seededRandom(`${device}/${begun}`);
      for (let at = 0; at < length; at++) mean[at]! += weight * (chance.uniform() - 0.5);
    }
    for (let at = 0; at < length; at++) total[at]! += mean[at]! / weights;
  }
  return total;
}

const history = ({ driver }: World) => driver.header.history.map(({ survivors }) => survivors);

describe("one slow device of five", () => {
  test("decides how long each round takes where a round waits for all", async () => {
    const { ends, summed } = await run({ cohort: { min: 3, max: 5 } });
    expect(ends.map((end) => Math.round(end / TRAIN_MS))).toEqual([2, 3, 5, 6]);
    expect(summed.filter(({ where }) => where.endsWith("e"))).toHaveLength(ROUNDS + 1);
  });

  const two = { min: 3, max: 4, count: 2, target: 7, overInvite: 1.3 };
  test.each([
    ["four", FIVE, FOUR_OF_FIVE, 4],
    ["two cohorts of three or four", [..."abcdefgh"], two, 7],
  ])(
    "does not where %s are enough; its updates count, once and weighed less",
    async (_, devices, cohort, enough) => {
      const { one, ends, summed } = await run({ cohort, staleness: { max: 2 } }, devices);
      const last = ends.at(-1)!;
      expect(last).toBeLessThan(ROUNDS * TRAIN_MS + 8_000);
      expect(history(one).slice(0, ROUNDS)).toEqual(Array(ROUNDS).fill(enough));
      const own = summed.filter(({ where }) => where.endsWith("e") && !where.startsWith(`${ROUNDS}`));
      expect(own.length).toBeGreaterThan(1);
      expect(own.some(({ where, begun }) => Number(where[0]) > begun)).toBe(true);
      expect(new Set(own.map(({ begun }) => begun)).size).toBe(own.length);

      const bytes = await openArtifacts(`${one.folder}/artifacts`).read(one.driver.header.adapter);
      const { tensors } = one.plan;
      const got = flatten(layoutOf(tensors), readTensors(tensors, bytes));
      const want = twin(one, summed);
      // A few steps of the grid; with e's late updates at their full weight it would be several times as far.
      for (const [at, value] of want.entries()) expect(Math.abs(got[at]! - value)).toBeLessThan(2e-3);
    },
  );

  test("that never comes back costs no round its deadline", async () => {
    const place = temporary();
    places.push(place);
    const one = new World(place.folder, plan({ rounds: ROUNDS, cohort: FOUR_OF_FIVE }), FIVE);
    open.push(one);
    one.trains = (device) => (device === "e" ? new Promise(() => {}) : one.life.clock.sleep(TRAIN_MS));
    await one.boot();
    await one.live();
    expect(history(one)).toEqual(Array(ROUNDS + 1).fill(4));
    expect(one.life.clock.nowMs()).toBeLessThan((ROUNDS + 1) * (TRAIN_MS + 2_000));
  });

  test("that answers nothing in any phase is late by one deadline, in each round", async () => {
    const words = ["invite", "openSession", "roster", "delivery", "survivors", "attestations"] as const;
    for (const silent of words) {
      const place = temporary();
      places.push(place);
      const one = new World(place.folder, plan({ rounds: 2, cohort: { min: 3, max: 5 } }), FIVE);
      open.push(one);
      one.silent = (device, word) => device === "e" && word === silent;
      await one.boot();
      await one.live();
      expect(one.driver.header.state, silent).toBe("finished");
      const counted = silent === "survivors" || silent === "attestations" ? 5 : 4;
      expect(history(one)).toEqual([counted, counted, counted]);
      const { trainMs, stageMs } = one.plan.deadlines;
      const atMost = silent === "invite" ? trainMs : stageMs;
      expect(one.life.clock.nowMs()).toBeLessThan(3 * (atMost + 2_000));
      expect(one.life.clock.nowMs()).toBeLessThan(3 * longestRoundMs(one.plan));
    }
  });
});
