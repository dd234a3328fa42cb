import { Fault } from "@tutti/foundation/fault";
import { seededRandom } from "@tutti/foundation/random";
import { expect, test } from "vitest";
import { Life } from "./life.ts";
import { type Call, Network } from "./network.ts";
import { Timeline } from "./timeline.ts";

const MINUTE_MS = 60_000;

test("a call whose message was lost breaks within a minute, however long it may take by itself", async () => {
  const timeline = new Timeline();
  const network = new Network(timeline, seededRandom("losses"), () => {});
  network.weather = { lost: 1, late: 0, repeated: 0 };
  const heard: number[] = [];
  for (let left = 100; left > 0; left--) {
    const call = callOf(timeline, () => heard.push(timeline.nowMs));
    network.carry(call, { to: () => null, deliver: () => expect.unreachable("it was lost") });
  }
  await timeline.run(() => false);
  expect(heard.length).toBe(100);
  expect(Math.min(...heard)).toBeLessThan(MINUTE_MS / 60);
  expect(Math.max(...heard)).toBeLessThan(MINUTE_MS);
});

function callOf(timeline: Timeline, onFault: (fault: Fault) => void): Call {
  const client = new Life("ann", { timeline, chance: seededRandom("ann"), wall: { offsetMs: 0 } });
  const fail = (fault: Fault) => {
    expect(fault).toBeInstanceOf(Fault);
    onFault(fault);
  };
  return {
    device: "ann",
    client,
    server: null,
    stop: new AbortController(),
    over: false,
    broken: false,
    fail,
    left: () => {},
  };
}
