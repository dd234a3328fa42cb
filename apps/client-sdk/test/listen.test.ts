import { Fault } from "@tutti/foundation/fault";
import { seededRandom } from "@tutti/foundation/random";
import { expect, test } from "vitest";
import { LONGEST_DELAY_MS } from "../src/backoff.ts";
import { listen } from "../src/listen.ts";

/** Streams that hold for so long each before they break; returns the pauses between them, in ms. */
async function pauses(holdsMs: readonly number[]): Promise<number[]> {
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
    hello: async () => ({}),
    // biome-ignore lint/correctness/useYield: it breaks before its first word
    listen: async function* () {
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
