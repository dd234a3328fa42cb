import type { Claim } from "../claim.ts";
import { idleRun, type Lap, withHall } from "../support/secagg/hall.ts";

/** Devices, processes they share, rounds, and the most seconds a round may take. */
const CASES = [
  { devices: 5, processes: 1, rounds: 9, mostMs: 500 },
  { devices: 50, processes: 4, rounds: 5, mostMs: 3000 },
] as const;

export const claim: Claim = {
  name: "secagg/round",
  target:
    "a full secure round over gRPC and TLS on one machine, 10^5 words, no training, with its release: 5 " +
    "devices in at most 0.5 s, 50 devices in 4 processes in at most 3 s (medians), and how the time divides",
  async run(report) {
    const figures: Record<string, unknown> = {};
    let holds = true;
    for (const { devices, processes, rounds, mostMs } of CASES) {
      // The first round meets every key for the first time.
      const prepared = idleRun({ devices, rounds: rounds + 1 });
      const laps = await withHall({ devices, processes }, (hall) => hall.rounds(prepared));
      for (const lap of laps) report(`${devices} devices: ${JSON.stringify(divided(lap))}`);
      const steady = laps.slice(1);
      const medianMs = median(steady.map(total));
      const middle = steady.find((lap) => total(lap) === medianMs)!;
      holds &&= medianMs <= mostMs;
      figures[`devices${devices}`] = {
        processes,
        words: prepared.plan.tensors.reduce((sum, { shape }) => sum + shape.reduce((a, b) => a * b), 0),
        rounds,
        firstMs: Math.round(total(laps[0]!)),
        medianMs: Math.round(medianMs),
        mostMs: Math.round(Math.max(...steady.map(total))),
        dividesMs: divided(middle),
      };
    }
    return { figures, holds };
  },
};

function total(lap: Lap): number {
  return [...lap.values()].reduce((sum, ms) => sum + ms, 0);
}

function divided(lap: Lap): Record<string, number> {
  return Object.fromEntries([...lap].map(([phase, ms]) => [phase, Math.round(ms)]));
}

/** Of an odd number. */
function median(values: readonly number[]): number {
  return [...values].sort((a, b) => a - b)[(values.length - 1) / 2]!;
}
