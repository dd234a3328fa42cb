import { seededRandom } from "@tutti/foundation/random";
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { type Move, Schedule, STUCK_MS, type Standing, type View } from "../src/schedule.ts";

const NEVER = Number.POSITIVE_INFINITY;
const nowMs = 0;
const gathering = (fewest: number, most = 100): View => ({
  need: { fewest, most },
  engaged: new Set(),
  untilMs: NEVER,
});
const at = (engaged: Iterable<string>, untilMs = NEVER): View => ({
  need: null,
  engaged: new Set(engaged),
  untilMs,
});

/** A schedule with runs of equal weight, all of which any device may serve. */
function hall(runs: readonly string[], devices: readonly string[]): Schedule {
  const schedule = new Schedule();
  for (const run of runs) schedule.addRun(run, 1);
  const may = new Map<string, Standing>(runs.map((run) => [run, "yes"]));
  for (const device of devices) schedule.here(device, may);
  return schedule;
}

const to = (moves: readonly Move[], run: string | null) =>
  moves.filter((move) => move.to === run).map(({ device }) => device);
const names = (count: number) => Array.from({ length: count }, (_, at) => `d${at}`);

describe("who serves which run", () => {
  test("a run alone has everybody, up to the most it can use", () => {
    const schedule = hall(["a"], names(5));
    schedule.update("a", gathering(3), { nowMs });
    expect(to(schedule.deal(0), "a").sort()).toEqual(names(5));
    schedule.update("a", gathering(3, 4), { nowMs: 50, fresh: seededRandom("next") });
    expect(to(schedule.deal(1), null)).toHaveLength(1);
    expect(schedule.serving("a").size).toBe(4);
  });

  test("whom a round is to ask first is asked first", () => {
    const schedule = hall(["a"], names(50));
    const need = { fewest: 2, most: 3, first: ["d7", "d31", "gone"] };
    schedule.update("a", { ...gathering(2), need }, { nowMs });
    schedule.deal(0);
    const serving = schedule.serving("a");
    expect([serving.size, serving.has("d7"), serving.has("d31")]).toEqual([3, true, true]);
  });

  test("two runs of three share four devices in turn: neither holds two for ever", () => {
    const schedule = hall(["a", "b"], []);
    schedule.update("a", gathering(3), { nowMs });
    schedule.update("b", gathering(3), { nowMs });
    const may = new Map<string, Standing>([
      ["a", "yes"],
      ["b", "yes"],
    ]);
    const moves = names(4).flatMap((device) => {
      schedule.here(device, may);
      return schedule.deal(0);
    });
    expect(to(moves, "a")).toHaveLength(4);
    schedule.update("a", at(schedule.serving("a")), { nowMs });
    expect(schedule.deal(1)).toEqual([]);
    expect([schedule.waits("b"), schedule.waits("a")]).toEqual([true, false]);
    schedule.update("a", gathering(3), { nowMs: 50, fresh: seededRandom("next") });
    expect(to(schedule.deal(100), "b")).toHaveLength(4);
    expect(schedule.waits("a")).toBe(true);
  });

  test("devices that too few hold go to whoever can do with them", () => {
    const schedule = hall(["large", "small"], names(4));
    schedule.update("large", gathering(5), { nowMs });
    expect(to(schedule.deal(0), "large")).toHaveLength(4);
    schedule.update("small", gathering(3), { nowMs });
    const moves = schedule.deal(1);
    expect(moves.every(({ from, to }) => from === "large" && to === "small")).toBe(true);
    expect(moves).toHaveLength(4);
  });

  test("one that comes back goes on where its round counts on it", () => {
    const schedule = hall(["a", "b"], names(3));
    schedule.update("a", gathering(3), { nowMs });
    schedule.deal(0);
    schedule.update("a", at(names(3)), { nowMs });
    schedule.gone("d1");
    expect(schedule.deal(1)).toEqual([{ device: "d1", from: "a", to: null }]);
    schedule.update("b", gathering(1), { nowMs });
    schedule.here(
      "d1",
      new Map([
        ["a", "yes"],
        ["b", "yes"],
      ]),
    );
    expect(schedule.deal(2)).toEqual([{ device: "d1", from: null, to: "a" }]);
  });

  test("one that may not serve, or not yet, is not asked", () => {
    const schedule = hall(["a"], []);
    schedule.update("a", gathering(2), { nowMs });
    schedule.here("d0", new Map([["a", "no"]]));
    schedule.here("d1", new Map([["a", "later"]]));
    schedule.here("d2", new Map([["a", "yes"]]));
    expect([to(schedule.deal(0), "a"), schedule.waits("a")]).toEqual([["d2"], true]);
    schedule.standing("d1", "a", "yes");
    expect(to(schedule.deal(1), "a")).toEqual(["d1"]);
    schedule.standing("d2", "a", "no");
    expect([schedule.deal(2), schedule.waits("a")]).toEqual([[{ device: "d2", from: "a", to: null }], false]);
  });

  test("a run that nobody drives any more holds up no other", () => {
    const schedule = hall(["a", "b"], names(3));
    schedule.update("a", gathering(3), { nowMs });
    schedule.deal(0);
    schedule.update("a", at(names(3), 1000), { nowMs });
    schedule.update("b", gathering(3), { nowMs });
    expect(schedule.deal(1000 + STUCK_MS - 1)).toEqual([]);
    expect(schedule.dueMs).toBe(1000 + STUCK_MS);
    expect(to(schedule.deal(1000 + STUCK_MS), "b").sort()).toEqual(names(3));
  });
});

test("one that waits past its deadline is not taken for one that nobody drives", () => {
  const schedule = hall(["a", "b"], names(3));
  schedule.update("a", gathering(3), { nowMs });
  schedule.deal(0);
  schedule.update("a", at(names(3)), { nowMs });
  schedule.update("b", { ...gathering(3), untilMs: 100 }, { nowMs });
  const lateMs = 100 + 10 * STUCK_MS;
  schedule.deal(lateMs);
  expect([schedule.isStuck("b"), schedule.waits("b")]).toEqual([false, true]);
  schedule.update("a", gathering(3), { nowMs: lateMs, fresh: seededRandom(1) });
  expect(to(schedule.deal(lateMs), "b")).toHaveLength(3);
  // From now on it has a while to show that it goes on.
  expect(schedule.dueMs).toBe(lateMs + STUCK_MS);
});

test("an event about one device costs no work for those that nobody asks for", () => {
  const cost = (idle: number) => {
    const schedule = hall(["a", "b"], names(idle));
    schedule.update("a", gathering(3, 5), { nowMs });
    schedule.deal(0);
    const before = schedule.looked;
    for (let round = 1; round < 20; round++) {
      const nowMs = 10 * round;
      schedule.update("a", at(schedule.serving("a")), { nowMs });
      schedule.deal(10 * round);
      schedule.here(
        "d1",
        new Map([
          ["a", "yes"],
          ["b", "no"],
        ]),
      );
      schedule.update("a", gathering(3, 5), { nowMs, fresh: seededRandom(round) });
      schedule.deal(10 * round + 5);
    }
    return schedule.looked - before;
  };
  expect(cost(10_000)).toBeLessThanOrEqual(cost(10) * 1.2);
});

type World = {
  readonly runs: readonly { fewest: number; extra: number; weight: number; lastsMs: number }[];
  /** Of each device, which runs it may serve; the bits of a number. */
  readonly devices: readonly number[];
  readonly rounds: number;
};

const worlds: fc.Arbitrary<World> = fc.record({
  runs: fc.array(
    fc.record({
      fewest: fc.integer({ min: 1, max: 6 }),
      extra: fc.integer({ min: 0, max: 6 }),
      weight: fc.integer({ min: 1, max: 4 }),
      lastsMs: fc.integer({ min: 1, max: 500 }),
    }),
    { minLength: 2, maxLength: 5 },
  ),
  devices: fc.array(fc.integer({ min: 0, max: 31 }), { minLength: 3, maxLength: 14 }),
  rounds: fc.constant(120),
});

/** Plays rounds: a run that has enough begins; which devices each began with, in order. */
function play({ runs, devices, rounds }: World): {
  began: { run: number; with: string[]; waiting: number[] }[];
  times: number[];
} {
  const schedule = new Schedule();
  const may = (bits: number) =>
    new Map(runs.map((_, run): [string, Standing] => [`${run}`, (bits >> run) & 1 ? "yes" : "no"]));
  for (const [run, { weight }] of runs.entries()) schedule.addRun(`${run}`, weight);
  for (const [at, bits] of devices.entries()) schedule.here(`d${at}`, may(bits));
  const began: { run: number; with: string[]; waiting: number[] }[] = [];
  const ends = runs.map(() => 0);
  const times = runs.map(() => 0);
  const busy = new Set<number>();
  let nowMs = 0;
  const gather = (run: number) => {
    const { fewest, extra } = runs[run]!;
    schedule.update(`${run}`, gathering(fewest, fewest + extra), {
      nowMs,
      fresh: seededRandom(`${run}/${began.length}`),
    });
  };
  for (const run of runs.keys()) gather(run);
  while (began.length < rounds) {
    schedule.deal(nowMs);
    for (const [run, { fewest, lastsMs }] of runs.entries()) {
      const serving = [...schedule.serving(`${run}`)];
      if (busy.has(run) || serving.length < fewest) continue;
      expect(serving.every((device) => (devices[Number(device.slice(1))]! >> run) & 1)).toBe(true);
      busy.add(run);
      began.push({ run, with: serving, waiting: [...runs.keys()].filter((other) => !busy.has(other)) });
      ends[run] = nowMs + lastsMs;
      times[run]! += lastsMs * serving.length;
      schedule.update(`${run}`, at(serving), { nowMs });
    }
    const [next] = [...busy].sort((a, b) => ends[a]! - ends[b]!);
    if (next === undefined) break;
    nowMs = ends[next]!;
    busy.delete(next);
    gather(next);
  }
  return { began, times };
}

describe("fairness", () => {
  test("every run with enough eligible devices gets a round within a bounded number of others'", () => {
    fc.assert(
      fc.property(worlds, (world) => {
        const { began } = play(world);
        const weights = world.runs.reduce((sum, { weight }) => sum + weight, 0);
        for (const [run, { fewest, weight }] of world.runs.entries()) {
          const bound = Math.ceil((2 * weights) / weight) + 2 * world.runs.length;
          const own = (device: string) => (world.devices[Number(device.slice(1))]! >> run) & 1;
          const eligible = world.devices.filter((bits) => (bits >> run) & 1).length;
          if (eligible < fewest) continue;
          let passed = 0;
          for (const round of began) {
            // Rounds that took nothing from this run are no concern of its.
            if (round.waiting.includes(run) && round.with.some(own)) passed++;
            if (round.run === run) passed = 0;
            expect(passed).toBeLessThanOrEqual(bound);
          }
        }
      }),
      { numRuns: 300 },
    );
  });

  test("device-time follows the weights where all compete for the same devices", () => {
    const runs = [1, 2, 3].map((weight) => ({ fewest: 4, extra: 0, weight, lastsMs: 10 + 7 * weight }));
    const { times } = play({ runs, devices: [7, 7, 7, 7], rounds: 3000 });
    const shares = times.map((time, at) => time / runs[at]!.weight);
    const mean = shares.reduce((sum, share) => sum + share) / 3;
    for (const share of shares) expect(Math.abs(share / mean - 1)).toBeLessThan(0.15);
  });

  test("a run that comes late owes nothing, and has nothing saved up", () => {
    const schedule = hall(["a"], names(3));
    schedule.update("a", gathering(3), { nowMs });
    schedule.deal(0);
    for (let round = 1; round < 50; round++) {
      const nowMs = round * 1000;
      schedule.update("a", at(names(3)), { nowMs });
      schedule.deal(round * 1000);
      schedule.update("a", gathering(3), { nowMs, fresh: seededRandom(round) });
      schedule.deal(round * 1000);
    }
    schedule.addRun("b", 1);
    for (const device of names(3)) schedule.standing(device, "b", "yes");
    schedule.update("b", gathering(3), { nowMs });
    const served: string[] = [];
    for (let round = 50; round < 60; round++) {
      const nowMs = round * 1000;
      for (const run of ["a", "b"])
        if (schedule.serving(run).size === 3) {
          served.push(run);
          schedule.update(run, at(names(3)), { nowMs });
          schedule.deal(round * 1000);
          schedule.update(run, gathering(3), { nowMs, fresh: seededRandom(round) });
        }
      schedule.deal(round * 1000);
    }
    expect(served.filter((run) => run === "b").length).toBeGreaterThanOrEqual(4);
    expect(served.filter((run) => run === "a").length).toBeGreaterThanOrEqual(4);
  });
});
