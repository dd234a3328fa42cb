import { create } from "@tutti/wire/message";
import { DeviceRecordSchema } from "@tutti/wire/standing";
import { expect, test } from "vitest";
import { lineOf } from "../src/commands/devices.ts";

const record = (lastSeenMs: number) =>
  create(DeviceRecordSchema, { name: "ann", site: "north", notAfterS: 2_000_000_000, lastSeenMs });

test("a device that did not come since the coordinator began is not said to have never come", () => {
  expect(lineOf(record(0), 0)).toBe(
    "ann  site north  valid until 2033-05-18  not seen since the coordinator began",
  );
  expect(lineOf(record(1_000), 0)).toContain("seen 1970-01-01T00:00:01Z");
});
