import { Fault } from "@tutti/foundation/fault";
import { seededRandom } from "@tutti/foundation/random";
import { expect, test } from "vitest";
import { LONGEST_DELAY_MS } from "../src/backoff.ts";
import { listen } from "../src/listen.ts";

type Saying = { readonly retry?: { minMs: number; maxMs: number }; readonly words?: readonly string[] };

/** Streams that hold for so long each before they break; returns the pauses between them, in ms. */
async function pauses(holdsMs: readonly number[], saying: Saying = {}): Promise<number[]> {
  const stop = new AbortController();
  const slept: number[] = [];
  let nowMs = 0;
  let at = 0;
  const clock = {
    nowMs: () => nowMs,
    wallMs: () => nowMs,
    sleep: async (ms: number) => {
      slept.push(ms);
      nowMs += ms;
    },
    turn: async () => {},
  };
  const link = {
    hello: async () => ({ retry: saying.retry }),
    listen: async function* () {
      for (const word of saying.words ?? []) yield { word: { case: word, value: { because: "" } } };
      nowMs += holdsMs[at++] ?? 0;
      if (at === holdsMs.length) stop.abort();
      throw new Fault("unavailable", "the coordinator went");
    },
  };
  const patience = { clock, jitter: seededRandom("listen") };
  const rest = { emit: () => {}, hear: () => {} };
  await listen({ ...rest, link: link as never, patience, signal: stop.signal });
  return slept;
}

test("a coordinator that is killed every five seconds is found again at once, each time", async () => {
  const slept = await pauses(Array.from({ length: 12 }, () => 5_000));
  expect(Math.max(...slept)).toBeLessThanOrEqual(200);
});

test("one that takes calls only to drop them is asked ever less often", async () => {
  const slept = await pauses(Array.from({ length: 12 }, () => 1));
  expect(slept.at(-1)).toBeGreaterThanOrEqual(LONGEST_DELAY_MS / 2);
  expect(slept.slice(1).every((ms, at) => ms > slept[at]! || ms >= LONGEST_DELAY_MS / 2)).toBe(true);
});

test("one away for long is waited for with growing pauses, then found quickly once it breaks", async () => {
  const slept = await pauses([...Array.from({ length: 8 }, () => 0), 20_000, 0]);
  expect(slept[7]).toBeGreaterThanOrEqual(LONGEST_DELAY_MS / 2);
  expect(slept[8]).toBeLessThanOrEqual(200);
});

test.each([
  ["idle", ["idle"], false],
  ["in a round", ["idle", "invite"], true],
  ["in a round's sum", ["invite", "openSession", "roster"], true],
  ["let go", ["invite", "excused"], false],
  ["done with a round", ["invite", "openSession", "published"], false],
])("of many devices one that is %s comes back when it was told, or soon: a round waits", async (...of) => {
  const [, words, isSoon] = of;
  const patience = { retry: { minMs: 30_000, maxMs: 75_000 }, words };
  const slept = (
    await pauses(
      Array.from({ length: 12 }, () => 60_000),
      patience,
    )
  ).slice(0, -1);
  for (const ms of slept) {
    expect(ms).toBeGreaterThanOrEqual(isSoon ? 1_000 : 30_000);
    expect(ms).toBeLessThanOrEqual(isSoon ? 2_000 : 75_000);
  }
});
