import { type RunStatus, RunStatusSchema } from "@tutti/wire/admin";
import { create } from "@tutti/wire/message";
import { expect, test } from "vitest";
import { EXIT_CODES } from "../src/output.ts";
import { findRun, findRunToStop, foundRunning, mustBeFinished } from "../src/runs.ts";

/** A run whose id begins with this digit. */
const one = (digit: string, name: string, state = "running"): RunStatus =>
  create(RunStatusSchema, { run: digit.repeat(64), name, state, round: 2 });
const found = (runs: readonly RunStatus[], said?: string) => findRun(runs, said).run.slice(0, 1);
const toStop = (runs: readonly RunStatus[], said?: string) => findRunToStop(runs, said).run.slice(0, 1);

test("a name that several runs have is that of the one in progress, else of the newest", () => {
  const runs = [one("1", "a"), one("2", "a", "finished"), one("3", "a", "failed"), one("4", "b")];
  expect(found(runs, "a")).toBe("1");
  expect(found(runs.slice(1), "a")).toBe("3");
  expect(found(runs)).toBe("4");
});

test("what is stopped without a name is in progress, though a newer one is over", () => {
  const runs = [one("1", "a"), one("2", "b", "finished")];
  expect(toStop(runs)).toBe("1");
  expect(toStop(runs, "b")).toBe("2");
  expect(() => toStop([...runs, one("3", "c")])).toThrow("expected one run in progress");
});

test("without a name nothing is stopped where none is in progress, and it is said how the newest is", () => {
  expect(() => toStop([one("1", "a", "failed"), one("2", "b", "finished")])).toThrow(
    "run: expected one in progress, got none; the newest, b (222222222222), is finished",
  );
  expect(toStop([one("1", "a", "failed"), one("2", "b", "finished")], "a")).toBe("1");
});

test("before the first run it is said how to start one, whatever is asked", () => {
  const none = "expected one, got no run yet. Start one with `tutti run start`";
  expect(() => findRun([], undefined)).toThrow(`run: ${none}`);
  expect(() => findRun([], "a")).toThrow(`run a: ${none}`);
  expect(() => findRunToStop([])).toThrow(`run: ${none}`);
});

test("of several in progress none is guessed: their ids are listed", () => {
  const runs = [one("1", "a"), one("2", "a"), one("3", "b")];
  expect(() => findRun(runs, "a")).toThrow(
    "run a: expected one run in progress, got 111111111111, 222222222222. Name it by its id",
  );
  expect(found(runs, "22")).toBe("2");
});

test("a name comes before an id that begins like it", () => {
  expect(found([one("1", "a", "finished"), one("a", "b")], "a")).toBe("1");
});

test("a run that was started: it was running already, or others of its name are", () => {
  const before = [one("1", "a"), one("2", "a"), one("3", "a", "failed"), one("4", "b")];
  const about = { run: "1".repeat(64), name: "a" };
  expect(foundRunning(before, about)).toEqual({ itself: before[0], others: ["222222222222"] });
  const fresh = { run: "5".repeat(64), name: "b" };
  expect(foundRunning(before, fresh)).toEqual({ itself: undefined, others: ["444444444444"] });
});

test("a run that failed ends what watched it with a code that says so, not with one to try again", () => {
  const failed = { ...one("1", "a", "failed"), reason: "round 3: below threshold" };
  const code = (() => {
    try {
      return mustBeFinished(failed.run, failed).state;
    } catch (error) {
      return (error as { code: keyof typeof EXIT_CODES }).code;
    }
  })();
  expect(code).toBe("failed");
  const numbers = Object.values(EXIT_CODES);
  expect(new Set(numbers).size).toBe(numbers.length);
  const fine = one("1", "a", "finished");
  expect(mustBeFinished(fine.run, fine)).toBe(fine);
});
