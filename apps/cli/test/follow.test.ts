import type { Clock } from "@tutti/foundation/clock";
import { Fault } from "@tutti/foundation/fault";
import { seededRandom } from "@tutti/foundation/random";
import { type RunStatus, RunStatusSchema } from "@tutti/wire/admin";
import { create } from "@tutti/wire/message";
import { expect, test } from "vitest";
import { follow } from "../src/follow.ts";

const run = "ab".repeat(32);
const status = (round: number, state = "running") => create(RunStatusSchema, { run, round, state });
const dropped = new Fault("unavailable", "Connection dropped");
const standby = new Fault("unavailable", "this coordinator", { got: "a standby" });

/** Time that passes where somebody waits, at once. */
class Waits implements Clock {
  ms = 0;
  nowMs = () => this.ms;
  wallMs = () => this.ms;
  turn = async () => {};
  async sleep(ms: number, signal?: AbortSignal): Promise<void> {
    signal?.throwIfAborted();
    this.ms += ms;
  }
}

/** Watches in a row, each of statuses and perhaps the error that it ends with; the last one for ever. */
async function followed(watches: readonly (readonly (RunStatus | Fault)[])[], abort = new AbortController()) {
  const clock = new Waits();
  const said: string[] = [];
  const rounds: number[] = [];
  let calls = 0;
  const admin = {
    async *watch() {
      for (const one of watches[Math.min(calls++, watches.length - 1)]!) {
        if (one instanceof Fault) throw one;
        yield one;
      }
    },
  };
  const patience = { clock, jitter: seededRandom("follow") };
  const say = (line: string) => void said.push(line);
  const ended = await (async () => {
    for await (const { round } of follow(admin, run, { patience, signal: abort.signal, say })) {
      rounds.push(round);
      if (round === 99) abort.abort();
    }
  })().catch((error: unknown) => error);
  return { ended, said, rounds, calls, waitedMs: clock.ms };
}

test("a coordinator that goes away and comes back is followed on, and that is said once", async () => {
  const away = [[dropped], [standby], []] as const;
  const { ended, said, rounds } = await followed([
    [status(1), dropped],
    ...away,
    [status(2)],
    [status(3, "finished")],
  ]);
  expect(ended).toBeUndefined();
  expect(rounds).toEqual([1, 2, 3]);
  const goesOn = "trying again. The run goes on while its coordinator does";
  expect(said).toEqual([
    `connection lost (Connection dropped); ${goesOn}`,
    "connected again",
    `connection lost (the coordinator ended the watch); ${goesOn}`,
    "connected again",
  ]);
});

test("one that stays away is given up after a minute, with what to do", async () => {
  const { ended, said, calls, waitedMs } = await followed([[status(1), dropped], [standby]]);
  expect(ended).toMatchObject({
    code: "unavailable",
    detail: { todo: expect.stringMatching(/The run goes on.*tutti run status/) },
  });
  expect(said).toHaveLength(1);
  expect(waitedMs).toBeGreaterThanOrEqual(60_000);
  expect(waitedMs).toBeLessThan(75_000);
  // Ever less often.
  expect(calls).toBeLessThan(25);
});

test("what waiting does not mend ends it at once, and so does the signal", async () => {
  const refused = new Fault("refused", "request");
  const no = await followed([[status(1), refused]]);
  expect([no.ended, no.calls, no.said]).toEqual([refused, 1, []]);
  const stopped = await followed([[status(99), new Fault("cancelled", "Watch")]]);
  expect([stopped.ended, stopped.calls, stopped.said]).toEqual([undefined, 1, []]);
});
