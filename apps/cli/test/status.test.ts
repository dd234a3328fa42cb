import { Fault } from "@tutti/foundation/fault";
import {
  CohortRecordSchema,
  DeviceActivitySchema,
  RoundRecordSchema,
  RunStatusSchema,
} from "@tutti/wire/admin";
import { create } from "@tutti/wire/message";
import { expect, test, vi } from "vitest";
import { reportFailure } from "../src/output.ts";
import { deviceLine, roundLine, statusLine, statusValue } from "../src/status.ts";

const record = create(RoundRecordSchema, { round: 1, survivors: 7, loss: 0.5, accuracy: 0.75 });
const cohorts = [
  { size: 4, dropped: "" },
  { size: 2, dropped: "2 of at least 3 devices uploaded" },
  { size: 3, dropped: "" },
].map((cohort) => create(CohortRecordSchema, cohort));

test("a round's line says how many, and of several cohorts each, and why one was dropped", () => {
  expect(roundLine(record, 10)).toBe("round  1/10  7 devices  held-out loss 0.5000  accuracy 0.7500");
  expect(roundLine({ ...record, cohorts }, 10)).toBe(
    "round  1/10  4+3 devices; cohort 2 of 3 dropped, 2 of at least 3 devices uploaded  " +
      "held-out loss 0.5000  accuracy 0.7500",
  );
});

test("a status is plain JSON down to each cohort", () => {
  const status = create(RunStatusSchema, { run: "r", history: [{ ...record, cohorts }] });
  expect(JSON.stringify(statusValue(status))).not.toContain("$typeName");
  expect(statusValue(status).history).toMatchObject([
    { survivors: 7, cohorts: [{ size: 4, dropped: "" }, {}, {}] },
  ]);
});

test("what others wrote commands no terminal", () => {
  const reason = "ann declined: \u001b[2J\u202eyadot on\r\nround 9/9";
  const status = create(RunStatusSchema, { run: "ab".repeat(32), name: "night", state: "failed", reason });
  expect(statusLine(status)).toBe(
    "night (abababababab): failed (ann declined: \ufffd[2J\ufffdyadot on\ufffd\ufffdround 9/9)",
  );
  const device = { device: "ann", connected: true, run: "cd".repeat(32), activity: "\u009b31mtraining" };
  expect(deviceLine(create(DeviceActivitySchema, device))).toBe(
    "  ann: serves cdcdcdcdcdcd, \ufffd31mtraining 0 %",
  );
  const dropped = { ...record, cohorts: cohorts.map((one) => ({ ...one, dropped: "\u001b[1m" })) };
  expect(roundLine(dropped, 10)).not.toContain("\u001b");
});

test("nor does an error's sentence, and with --json it stays the same value", () => {
  const written: string[] = [];
  const write = vi
    .spyOn(process.stderr, "write")
    .mockImplementation((text) => written.push(String(text)) > 0);
  const fault = new Fault("unavailable", "run", { got: "failed: \u001b[2J\u009bm" });
  reportFailure(fault, false);
  reportFailure(fault, true);
  write.mockRestore();
  expect(written[0]).toBe("tutti: run: got failed: \ufffd[2J\ufffdm\n");
  expect(written[1]!.trimEnd()).not.toMatch(/\p{Cc}/u);
  expect(JSON.parse(written[1]!).error.got).toBe("failed: \u001b[2J\u009bm");
});

test("a run that waits says why, and a device which run it serves", () => {
  const waiting = "2 of at least 3 eligible devices are here; 4 are out: not charging";
  const status = create(RunStatusSchema, {
    run: "ab".repeat(32),
    name: "night",
    state: "running",
    rounds: 5,
    phase: "gathering",
    waiting,
  });
  expect(statusLine(status)).toBe(`night (abababababab): round 0 of 5, gathering (${waiting})`);
  const reason = "round 0, attempt 1 of 3: 2 of at least 3 devices were ready";
  expect(statusLine({ ...status, reason })).toBe(
    `night (abababababab): round 0 of 5, gathering (${waiting}; failed before: ${reason})`,
  );
  expect(statusLine({ ...status, waiting: "", reason, state: "failed" })).toBe(
    `night (abababababab): failed (${reason})`,
  );
  const device = {
    device: "ann",
    connected: true,
    run: "cd".repeat(32),
    activity: "training",
    progress: 0.4,
  };
  expect(deviceLine(create(DeviceActivitySchema, device))).toBe("  ann: serves cdcdcdcdcdcd, training 40 %");
  expect(deviceLine(create(DeviceActivitySchema, { device: "bob", connected: true }))).toBe(
    "  bob: serves no run",
  );
  expect(deviceLine(create(DeviceActivitySchema, { device: "eve", run: "cd" }))).toBe("  eve: away");
  const declined = { device: "dan", connected: true, declined: "policy, owner: expected ann, got eve" };
  expect(deviceLine(create(DeviceActivitySchema, declined))).toBe(
    "  dan: declined: policy, owner: expected ann, got eve",
  );
});
