const LOOK_MS = 50;
/** What is remembered is of this span, or of twice as long. */
const SPAN_MS = 600_000;
/** A standstill in which this process used less of a processor was none of its own computing. */
const LEAST_SHARE = 0.05;

let timer: NodeJS.Timeout | undefined;
let [lookedMs, usedMs] = [0, 0];
let [sinceMs, mostMs, beforeMs] = [Number.NEGATIVE_INFINITY, 0, 0];

/**
 * How long computing held this process's event loop up at most, of late: devices of one process share it. A
 * process that was stopped, or whose machine slept, computed nothing meanwhile, and what it answers within
 * says nothing of that.
 */
export function heldUpMs(): number {
  if (timer === undefined) {
    [lookedMs, usedMs] = [performance.now(), processorMs()];
    timer = setInterval(look, LOOK_MS);
    timer.unref();
  }
  // What holds it up at this moment is over by now, and was not looked at yet.
  look();
  return Math.max(beforeMs, mostMs);
}

function look(): void {
  const [nowMs, processor] = [performance.now(), processorMs()];
  const lateMs = nowMs - lookedMs - LOOK_MS;
  if (processor - usedMs >= LEAST_SHARE * lateMs) mostMs = Math.max(mostMs, lateMs);
  [lookedMs, usedMs] = [nowMs, processor];
  if (nowMs - sinceMs > SPAN_MS) [sinceMs, beforeMs, mostMs] = [nowMs, mostMs, 0];
}

/** Of all threads. */
function processorMs(): number {
  const { user, system } = process.cpuUsage();
  return (user + system) / 1000;
}
