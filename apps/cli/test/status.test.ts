import {
  CohortRecordSchema,
  DeviceActivitySchema,
  RoundRecordSchema,
  RunStatusSchema,
} from "@tutti/wire/admin";
import { create } from "@tutti/wire/message";
import { expect, test } from "vitest";
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
});
