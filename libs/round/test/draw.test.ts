import { create } from "@tutti/wire/message";
import { Task_Kind, TaskSchema } from "@tutti/wire/round";
import { expect, test } from "vitest";
import { beginRound, step } from "../src/round.ts";
import { planOf, TRUST } from "./cast.ts";

const NAMES = ["ada", "bo", "cyd", "dee", "eli", "fay"];

/** Who is invited to a round when all six are here and three fit. */
function invitedTo(number: number): readonly string[] {
  const plan = planOf({ cohort: { min: 3, max: 3 }, rounds: 50 });
  const task = create(TaskSchema, { run: "run", round: number, kind: Task_Kind.TRAIN });
  const spec = { plan, task, attempt: 0, expected: new Set(NAMES) };
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
