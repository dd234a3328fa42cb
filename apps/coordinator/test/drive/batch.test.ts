import { beginRound, type Round, step } from "@tutti/round/round";
import { firstHeader, taskOf } from "@tutti/round/run";
import { sessionId } from "@tutti/round/summing";
import type { JournalEntry } from "@tutti/wire/journal";
import { expect, test } from "vitest";
import { planOf, TRUST } from "../../../../libs/round/test/cast.ts";
import { takeBatch } from "../../src/drive/batch.ts";
import type { Sums, Waiting } from "../../src/drive/waiting.ts";

const DEVICES = ["a", "b", "c"];

/** A round without masks in which everybody may upload. */
function masking(): Round {
  const plan = planOf({ secureAggregation: { enabled: false } });
  const header = firstHeader({ version: 0, manifest: "00".repeat(32), adapter: "00".repeat(32) });
  const spec = { plan, task: taskOf("run", plan, header), attempt: 0, expected: new Set(DEVICES) };
  let round = beginRound(spec, { connected: [], nowMs: 0, trust: TRUST });
  const say = (device: string, event: JournalEntry["event"]) => {
    [round] = step(round, { nowMs: 0, device, event });
  };
  for (const device of DEVICES) say(device, { case: "connected", value: true });
  for (const device of DEVICES) say(device, { case: "ready", value: true });
  return round;
}

function uploadOf(device: string, round: Round, heard: string[]): Waiting {
  return {
    device,
    event: { case: "uploaded", value: true },
    upload: { vector: Uint32Array.of(1, 2), session: sessionId(round.cohorts[0]!.sum) },
    settle: { resolve: () => {}, reject: (reason) => heard.push(`${device}: ${(reason as Error).message}`) },
  };
}

test("an upload whose vector finds no memory is refused, and no entry says that it is in the sum", () => {
  const round = masking();
  const heard: string[] = [];
  const bugs: unknown[] = [];
  const full = {
    slice: () => {
      throw new RangeError("Array buffer allocation failed");
    },
  };
  const sums = new Map([[0, full]]) as unknown as Sums;
  const waiting = [uploadOf("a", round, heard)];
  const batch = takeBatch(waiting, { round, sums, nowMs: 0, runState: "running" }, (bug) => bugs.push(bug));
  expect(heard).toEqual(["a: Array buffer allocation failed"]);
  expect(bugs).toHaveLength(1);
  expect(batch).toMatchObject({ round, accepted: [], entries: [], effects: [] });
  expect(batch.changed.size).toBe(0);
});
