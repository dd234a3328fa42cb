import type { Clock } from "@tutti/foundation/clock";
import type { SeededRandom } from "@tutti/foundation/random";
import type { Ack } from "@tutti/wire/device";
import { create } from "@tutti/wire/message";
import { ReportRequestSchema } from "@tutti/wire/round";
import type { Activity, Listener } from "./events.ts";
import type { Link } from "./link.ts";

/** A report costs the coordinator what any message of a round does, and a person reads no faster. */
const REPORT_EVERY_MS = 1_000;
/** However many devices report, a person wants to see some of it. */
const LONGEST_PAUSE_MS = 60_000;

type Now = { run: string; round: number; activity: Activity; progress: number };

/** What a device is at, now: told to the app each time, to the coordinator now and then. */
export type Reporter = (now: Now) => void;

/**
 * Reports are for people watching: activity and progress, never a number about data. At most one leaves every
 * REPORT_EVERY_MS, or within the longer window that the coordinator tells: the first at once, then what is so
 * when that time is over. One that fails is dropped.
 */
export function reporter(options: {
  link: Pick<Link, "report">;
  clock: Clock;
  emit: Listener;
  signal: AbortSignal;
  jitter: SeededRandom;
}): Reporter {
  const { link, clock, emit, signal, jitter } = options;
  let pauseMs = REPORT_EVERY_MS;
  let sentMs = Number.NEGATIVE_INFINITY;
  let newest: Now | null = null;
  const send = (now: Now) => {
    sentMs = clock.nowMs();
    const heard = ({ retry }: Ack) => {
      if (!retry) return;
      const asked = retry.minMs + Math.max(0, retry.maxMs - retry.minMs) * jitter.uniform();
      pauseMs = Math.min(Math.max(asked, REPORT_EVERY_MS), LONGEST_PAUSE_MS);
    };
    link.report(create(ReportRequestSchema, now), signal).then(heard, () => {});
  };
  const later = () => {
    if (newest !== null) send(newest);
    newest = null;
  };
  return (now) => {
    const { activity, progress, round } = now;
    emit({ kind: "activity", activity, progress, round });
    if (signal.aborted) return;
    const waitMs = sentMs + pauseMs - clock.nowMs();
    if (newest === null && waitMs <= 0) return send(now);
    const waiting = newest !== null;
    newest = now;
    if (!waiting) clock.sleep(waitMs, signal).then(later, () => {});
  };
}
