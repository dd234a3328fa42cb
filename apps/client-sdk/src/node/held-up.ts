import { monitorEventLoopDelay } from "node:perf_hooks";

const RESOLUTION_MS = 50;
/** What is remembered is of this span, or of twice as long. */
const SPAN_MS = 600_000;

const histogram = monitorEventLoopDelay({ resolution: RESOLUTION_MS });
let [sinceMs, beforeMs] = [Number.NEGATIVE_INFINITY, 0];

/** How long this process's event loop stood still at most, of late: devices of one process share it. */
export function heldUpMs(): number {
  histogram.enable();
  const nowMs = performance.now();
  const heldMs = Math.max(beforeMs, histogram.max / 1e6);
  if (nowMs - sinceMs > SPAN_MS) {
    [sinceMs, beforeMs] = [nowMs, histogram.max / 1e6];
    histogram.reset();
  }
  return heldMs;
}
