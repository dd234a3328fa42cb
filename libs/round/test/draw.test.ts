import { fewestDealt, fewestDevices } from "@tutti/plan/cohort";
import { create } from "@tutti/wire/message";
import { Task_Kind, TaskSchema } from "@tutti/wire/round";
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { deal, fewestCounted } from "../src/cohorts.ts";
import { beginRound, step } from "../src/round.ts";
import { planOf, TRUST } from "./cast.ts";

const NAMES = ["ada", "bo", "cyd", "dee", "eli", "fay"];

/** Who is invited to a round when all six are here and three fit. */
function invitedTo(number: number, owed: readonly string[] = []): readonly string[] {
  const plan = planOf({ cohort: { min: 3, max: 3 }, rounds: 50 });
  const task = create(TaskSchema, { run: "run", round: number, kind: Task_Kind.TRAIN });
  const spec = {
    plan,
    task,
    attempt: 0,
    expected: new Set(NAMES),
    owed: new Map(owed.map((name) => [name, 1])),
  };
  let round = beginRound(spec, { connected: [], nowMs: 0, trust: TRUST });
  // Together, as after a round: the whole house is here before anyone is chosen.
  round = { ...round, connected: new Set(NAMES) };
  [round] = step(round, { nowMs: 1, device: "", event: { case: "recovered", value: true } });
  return [...round.invited].sort();
}

test("where more are here than fit, every round draws anew, and nobody is left out for good", () => {
  const rounds = Array.from({ length: 20 }, (_, number) => invitedTo(number));
  expect(rounds.every((invited) => invited.length === 3)).toBe(true);
  expect([...new Set(rounds.flat())].sort()).toEqual(NAMES);
  expect(new Set(rounds.map(String)).size).toBeGreaterThan(5);
});

test("the same round draws the same devices: a coordinator that restarts invites nobody else", () => {
  expect(invitedTo(7)).toEqual(invitedTo(7));
});

test("whom an earlier round excused is invited first; where they are more than fit, some of them", () => {
  for (let number = 0; number < 20; number++) {
    expect(invitedTo(number, ["eli", "fay"])).toEqual(expect.arrayContaining(["eli", "fay"]));
    const four = ["ada", "bo", "cyd", "dee"];
    expect(invitedTo(number, four).every((name) => four.includes(name))).toBe(true);
    expect(invitedTo(number, ["zoe"])).toEqual(invitedTo(number));
  }
});

describe("cohorts are dealt", () => {
  const names = (count: number) => Array.from({ length: count }, (_, at) => `d${at + 100}`);
  const cohortOf = (cohort: { min: number; max: number; count: number }, round = 0) => {
    const task = create(TaskSchema, { run: "run", round, kind: Task_Kind.TRAIN });
    return { plan: planOf({ cohort, rounds: 50 }), task, attempt: 0, expected: new Set<string>() };
  };
  const shape = fc
    .record({ min: fc.integer({ min: 2, max: 6 }), more: fc.nat(6), count: fc.integer({ min: 1, max: 8 }) })
    .map(({ min, more, count }) => ({ min, max: min + more, count }));

  test("as many as there are devices for, min to max in each, as even as can be, nobody in two", () => {
    fc.assert(
      fc.property(shape, fc.integer({ min: 0, max: 100 }), (cohort, count) => {
        const devices = names(count);
        const dealt = deal(cohortOf(cohort), devices);
        expect(dealt).toHaveLength(Math.min(cohort.count, Math.floor(count / cohort.min)));
        const sizes = dealt.map(({ length }) => length);
        for (const size of sizes) {
          expect(size).toBeGreaterThanOrEqual(cohort.min);
          expect(size).toBeLessThanOrEqual(cohort.max);
        }
        if (sizes.length > 0) expect(Math.max(...sizes) - Math.min(...sizes)).toBeLessThanOrEqual(1);
        const all = dealt.flat();
        expect(new Set(all).size).toBe(all.length);
        expect(all.length).toBe(Math.min(count, dealt.length * cohort.max));
        expect(all.every((device) => devices.includes(device))).toBe(true);
        expect(deal(cohortOf(cohort), devices.reverse())).toEqual(dealt);
      }),
    );
  });

  test("anew in each round: whoever was together need not be again", () => {
    const cohort = { min: 3, max: 3, count: 2 };
    const with0 = Array.from({ length: 20 }, (_, round) => {
      const dealt = deal(cohortOf(cohort, round), names(6));
      return String(dealt.find((devices) => devices.includes("d100"))!.sort());
    });
    expect(new Set(with0).size).toBeGreaterThan(4);
  });

  test("a median wants three cohorts, and more than half of those dealt to be left; a mean wants one", () => {
    const plan = (count: number, combine: unknown) => planOf({ cohort: { min: 3, max: 4, count, combine } });
    expect([1, 2, 8].map((count) => fewestDealt(plan(count, "mean")))).toEqual([1, 1, 1]);
    expect([3, 6, 7, 8].map((count) => fewestDealt(plan(count, "median")))).toEqual([3, 3, 4, 4]);
    expect([3, 4, 5, 6].map((dealt) => fewestCounted(plan(8, "median"), dealt))).toEqual([2, 3, 3, 4]);
    expect(fewestCounted(plan(8, "mean"), 8)).toBe(1);
    expect(fewestDevices(plan(8, "geometric-median"))).toBe(12);
  });
});
