import { RoundRecordSchema } from "@tutti/wire/admin";
import { create } from "@tutti/wire/message";
import { describe, expect, test } from "vitest";
import { afterFailure, afterResume, afterStop, afterSuccess, firstHeader } from "../src/run.ts";
import { planOf } from "./cast.ts";

const plan = planOf({ rounds: 4, attempts: 2 });
const owed = new Map([["ann", 2]]);
const header = {
  ...firstHeader({ version: 3, manifest: "ee".repeat(32), adapter: "cd".repeat(32) }),
  round: 3,
  strategy: "ab".repeat(32),
  cohort: ["ann", "bob"],
  history: [create(RoundRecordSchema, { round: 2 })],
  earlier: 7,
  rho: 0.25,
  clipNorm: 4,
};
const failing = { reason: "too few", rho: 0.125, owed };

describe("a run that is resumed", () => {
  test("keeps its round, release, server state, history, and what it spent", () => {
    const failed = afterFailure(plan, afterFailure(plan, header, failing), failing);
    expect(failed).toMatchObject({ state: "failed", attempt: 2, rho: 0.5 });
    const { state, maxAttempts, ...rest } = afterResume(plan, failed);
    expect({ state, maxAttempts }).toEqual({ state: "running", maxAttempts: 4 });
    const { state: _, maxAttempts: __, ...kept } = failed;
    expect(rest).toEqual(kept);
  });

  test("has as many attempts again, and with the next round as many as ever", () => {
    const failed = [1, 2].reduce((now) => afterFailure(plan, now, failing), header);
    const resumed = afterResume(plan, failed);
    const once = afterFailure(plan, resumed, failing);
    expect(once).toMatchObject({ state: "running", attempt: 3, reason: expect.stringContaining("3 of 4") });
    expect(afterFailure(plan, once, failing).state).toBe("failed");
    const next = afterSuccess(plan, once, { record: create(RoundRecordSchema), cohort: [], owed: new Map() });
    expect(next).toMatchObject({ round: 4, attempt: 0, maxAttempts: 0, reason: "" });
    expect(afterFailure(plan, next, failing).state).toBe("running");
  });

  test("that was stopped does not make that attempt again, and says nothing of the stop", () => {
    const stopped = afterStop({ ...header, attempt: 1 }, 0.125);
    expect(afterResume(plan, stopped)).toMatchObject({ attempt: 2, maxAttempts: 4, rho: 0.375, reason: "" });
    const again = afterStop(afterResume(plan, stopped), 0);
    expect(afterResume(plan, again)).toMatchObject({ attempt: 3, maxAttempts: 5 });
  });
});
