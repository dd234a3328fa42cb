import { setTimeout as after } from "node:timers/promises";
import type { Clock } from "@tutti/foundation/clock";

/** The machine's own time: monotonic for waiting, the wall's for certificates. */
export function systemClock(): Clock {
  return {
    nowMs: () => performance.now(),
    wallMs: () => Date.now(),
    sleep: async (ms, signal) => {
      try {
        await after(ms, undefined, signal && { signal });
      } catch (error) {
        throw signal?.aborted ? signal.reason : error;
      }
    },
  };
}
