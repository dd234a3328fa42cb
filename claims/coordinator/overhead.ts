import { setTimeout as sleep } from "node:timers/promises";
import type { Claim } from "../claim.ts";
import type { CoordinatorSaid } from "../support/coordinator/coordinator.ts";
import { type House, noopRun, withHouse } from "../support/coordinator/house.ts";

const ROUND_MS = 300;
const NOTICED_MS = 5_000;
const MANY = 1_000;
/** A device that was once stopped for so long does not compute for so long. */
const NAP_MS = 6_000;
const PLAIN = { policy: { requireSecureAggregation: false } };

export const claim: Claim = {
  name: "coordinator/overhead",
  target:
    "a round without training or masks, of 50 devices over gRPC and TLS on one machine: at most " +
    `${ROUND_MS / 1000} s (median); a device that is killed or stands still in round 4, also one ` +
    `that stood still before: it goes on without it within ${NOTICED_MS / 1000} s; rounds per minute with ` +
    `${MANY} devices are told`,
  async run(report) {
    const fifty = await laps({ devices: 50, processes: 2, rounds: 30 });
    report(`50 devices: ${fifty.map((ms) => Math.round(ms)).join(" ")} ms`);
    const dead = await noticed("SIGKILL");
    const stopped = await noticed("SIGSTOP");
    const again = await noticed("SIGSTOP", NAP_MS);
    report(`a round went on ${dead} ms after a kill, ${stopped} ms after a stop, ${again} ms after a second`);
    const many = await laps({ devices: MANY, processes: 4, rounds: 4 });
    report(`${MANY} devices: ${many.map((ms) => Math.round(ms)).join(" ")} ms`);
    const roundMs = Math.round(median(fifty.slice(2)));
    const figures = {
      devices50: { roundMs, worstMs: Math.round(Math.max(...fifty.slice(2))) },
      many: { devices: MANY, roundsPerMinute: Math.round((60_000 / median(many.slice(1))) * 10) / 10 },
      goesOnMs: { killed: dead, standingStill: stopped, standingStillAgain: again },
    };
    return { figures, holds: roundMs <= ROUND_MS && Math.max(dead, stopped, again) <= NOTICED_MS };
  },
};

type Size = { devices: number; processes: number; rounds: number };

/** Milliseconds from each round's beginning to the next one's. */
async function laps({ devices, processes, rounds }: Size): Promise<number[]> {
  // All of them come from one address here.
  const config = { limits: { connectionsPerAddress: MANY + 100 } };
  const options = { ...PLAIN, devices, processes, config, inMemory: true, watch: "phases" } as const;
  return await withHouse(options, async (house) => {
    const began: number[] = [];
    house.onCoordinator = (said) => {
      if (said.kind === "phase") began[said.round] ??= said.atMs;
    };
    const run = await house.begin(
      noopRun({
        name: "overhead",
        rounds,
        cohort: { min: devices, max: devices },
        secureAggregation: { enabled: false },
      }),
    );
    await mustFinish(house, run);
    return began.slice(1).map((ms, at) => ms - began[at]!);
  });
}

/**
 * How long after one of four devices fell silent in the midst of a round the round went on without it; of one
 * that was stopped for `napMs` before the run.
 */
async function noticed(signal: "SIGKILL" | "SIGSTOP", napMs = 0): Promise<number> {
  const four = { devices: 4, processes: 2, lastAlone: true, inMemory: true, watch: "phases" } as const;
  return await withHouse({ ...PLAIN, ...four }, async (house) => {
    const reached = (round: number, phase: string) =>
      new Promise<void>((resolve) => {
        house.onCoordinator = (said: CoordinatorSaid) => {
          if (said.kind === "phase" && said.round === round && said.phase === phase) resolve();
        };
      });
    const run = noopRun({
      name: "silent",
      rounds: 5,
      cohort: { min: 3, max: 4 },
      secureAggregation: { enabled: false },
    });
    const { pid } = house.devices[1]!;
    if (napMs > 0) {
      process.kill(pid, "SIGSTOP");
      await sleep(napMs);
      process.kill(pid, "SIGCONT");
    }
    const before = reached(2, "summing");
    const id = await house.begin(run);
    await before;
    const training = reached(3, "training");
    house.tell(3, "silence");
    await training;
    const summing = reached(3, "summing");
    process.kill(pid, signal);
    const sinceMs = performance.now();
    await summing;
    const tookMs = Math.round(performance.now() - sinceMs);
    const { history } = await mustFinish(house, id);
    const survivors = history.find(({ round }) => round === 3)?.survivors;
    if (survivors !== 3)
      throw new Error(`round 4 had ${survivors} survivors: it did not wait for the device`);
    return tookMs;
  });
}

async function mustFinish(house: House, run: string) {
  const status = await house.over(run);
  if (status.state !== "finished") throw new Error(`the run ended as ${status.state}: ${status.reason}`);
  return status;
}

function median(values: readonly number[]): number {
  return [...values].sort((a, b) => a - b)[values.length >> 1] ?? Number.NaN;
}
