import type { Clock } from "@tutti/foundation/clock";
import { create } from "@tutti/wire/message";
import { ReportRequestSchema } from "@tutti/wire/round";
import type { Activity, Listener } from "./events.ts";
import type { Link } from "./link.ts";

/** At most four reports a second leave the device. */
const REPORT_EVERY_MS = 250;

/** What a device is at, now: told to the app each time, to the coordinator now and then. */
export type Reporter = (now: { run: string; round: number; activity: Activity; progress: number }) => void;

/**
 * Reports are for people watching: activity and progress, never a number about data. One that fails is
 * dropped; a change of activity is always sent, progress only every REPORT_EVERY_MS.
 */
export function reporter(options: {
  link: Pick<Link, "report">;
  clock: Clock;
  emit: Listener;
  signal: AbortSignal;
}): Reporter {
  const { link, clock, emit, signal } = options;
  let last = { activity: "", atMs: Number.NEGATIVE_INFINITY };
  return ({ run, round, activity, progress }) => {
    emit({ kind: "activity", activity, progress, round });
    const nowMs = clock.nowMs();
    const due = nowMs - last.atMs >= REPORT_EVERY_MS || activity !== last.activity;
    if (!due || signal.aborted) return;
    last = { activity, atMs: nowMs };
    link.report(create(ReportRequestSchema, { run, round, activity, progress }), signal).catch(() => {});
  };
}
