import type { Clock } from "@tutti/foundation/clock";
import { Fault } from "@tutti/foundation/fault";
import { AckSchema } from "@tutti/wire/device";
import { create } from "@tutti/wire/message";
import { type Instruction, InstructionSchema, InviteSchema } from "@tutti/wire/round";
import { expect, test } from "vitest";
import { deviceOn, scriptOf, until } from "./scripted.ts";

/** Pauses between tries pass at once, those of `longMs` and more when they are told to. */
function clockOf(longMs: number) {
  const long: (() => void)[] = [];
  const sleep: Clock["sleep"] = (ms, signal) =>
    new Promise((resolve, reject) => {
      signal?.addEventListener("abort", () => reject(signal.reason), { once: true });
      if (ms < longMs) setImmediate(resolve);
      else long.push(resolve);
    });
  return { long, sleep };
}

/** A coordinator that says more and more, and takes no answer to its first word until it is told to. */
async function flooded() {
  const script = scriptOf();
  const clock = clockOf(60_000);
  const all = { said: 0, streams: 0, declined: 0, takes: false };
  const word = (word: Instruction["word"]) => create(InstructionSchema, { word });
  const link = {
    ...script.linkFor("ann"),
    decline: async () => {
      if (!all.takes) throw new Fault("unavailable", "decline");
      all.declined++;
      return create(AckSchema);
    },
    listen: async function* () {
      all.streams++;
      yield word({ case: "invite", value: create(InviteSchema) });
      for (; all.said < 10_000; all.said++) yield word({ case: "idle", value: {} } as never);
    },
  };
  script.linkFor = () => link;
  const { device, events } = await deviceOn(script, "ann", { sleep: clock.sleep });
  const stop = new AbortController();
  const taking = device.participate({ signal: stop.signal });
  const end = async () => {
    stop.abort();
    await taking;
  };
  return { all, clock, events, end };
}

async function turns(count = 50): Promise<void> {
  for (let turn = 0; turn < count; turn++) await new Promise((resolve) => setImmediate(resolve));
}

test("while a word cannot be answered few others are read; once it is, all are", async () => {
  const { all, end } = await flooded();
  await until(() => all.said > 0);
  await turns();
  expect(all.said).toBeLessThan(20);
  all.takes = true;
  await until(() => all.said === 10_000);
  expect(all.declined).toBeGreaterThan(0);
  await end();
});

test("a stream that is not read for ten minutes is given up; none of the next ones adds to it", async () => {
  const { all, clock, events, end } = await flooded();
  for (let stream = 1; stream <= 3; stream++) {
    await until(() => clock.long.length > 0);
    await turns();
    expect(all).toMatchObject({ streams: stream, takes: false });
    expect(all.said).toBeLessThan(20);
    clock.long.pop()!();
  }
  await until(() => all.streams === 4);
  const because = events.flatMap((event) => (event.kind === "state" ? (event.because?.message ?? []) : []));
  expect(because[0]).toMatch(/words of the coordinator: expected at most 16 to answer/);
  // Even so the device stops when it is told to.
  await end();
});
