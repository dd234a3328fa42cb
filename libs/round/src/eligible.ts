import { compareVersions, parseVersion } from "@tutti/foundation/version";
import type { Eligibility, Participation } from "@tutti/plan/eligibility";
import type { DeviceState } from "@tutti/wire/device";
import type { Standing } from "./schedule.ts";

/** What is known of a device that is here: its certificate's labels, and what it says of itself. */
export type Facts = {
  readonly labels: Readonly<Record<string, string>>;
  readonly state: DeviceState | undefined;
};

/** What a run remembers of a device: how many of its rounds it was in, which last, and when (wall clock). */
export type Past = { readonly rounds: number; readonly lastRound: number; readonly lastMs: number };

/** Whether a device may serve a run's present round, and why not in general terms; empty where it may. */
export type Judgement = {
  readonly standing: Standing;
  readonly because: string;
  /**
   * From which round on, or from which moment of the wall clock on, it may again. Time passes by itself, so a
   * run may wait for it ("later"); a next round may never come, so none waits for that.
   */
  readonly fromRound?: number;
  readonly fromMs?: number;
};

const MAY: Judgement = { standing: "yes", because: "" };

export function judge(
  wanted: Eligibility | undefined,
  facts: Facts,
  at: { readonly past: Past | undefined; readonly round: number; readonly wallMs: number },
): Judgement {
  if (wanted === undefined) return MAY;
  const because = whyNot(wanted, facts);
  if (because !== "") return { standing: "no", because };
  return wanted.participation && at.past ? rested(wanted.participation, at.past, at) : MAY;
}

/** The first condition that a device does not meet; what it does not say of itself it does not meet. */
function whyNot(wanted: Eligibility, { labels, state }: Facts): string {
  for (const [key, values] of Object.entries(wanted.labels ?? {})) {
    const has = Object.hasOwn(labels, key) ? labels[key] : undefined;
    if (has === undefined || ![values].flat().includes(has)) return `label ${key} is another`;
  }
  if (wanted.charging && !state?.charging) return lacking("charging", state?.charging);
  if (wanted.unmetered && !state?.unmetered) return lacking("on an unmetered connection", state?.unmetered);
  if (wanted.idle && !state?.idle) return lacking("idle", state?.idle);
  if (wanted.sdk !== undefined && !isAtLeast(state?.sdk ?? "", wanted.sdk.slice(2)))
    return `SDK older than ${wanted.sdk.slice(2)}`;
  if (wanted.engines && !wanted.engines.some((engine) => state?.engines.includes(engine)))
    return `no engine ${wanted.engines.join(" or ")}`;
  return "";
}

function lacking(what: string, said: boolean | undefined): string {
  return said === undefined ? `not known to be ${what}` : `not ${what}`;
}

function isAtLeast(said: string, least: string): boolean {
  if (said === "") return false;
  try {
    return compareVersions(parseVersion("SDK", said), parseVersion("SDK", least)) >= 0;
  } catch {
    return false;
  }
}

/** Another attempt at a round that it was in is the same round. */
function rested(
  { maxRounds, everyMs, minRoundsBetween }: Participation,
  { rounds, lastRound, lastMs }: Past,
  { round, wallMs }: { round: number; wallMs: number },
): Judgement {
  if (rounds === 0 || lastRound === round) return MAY;
  if (maxRounds !== undefined && rounds >= maxRounds)
    return { standing: "no", because: "in as many rounds as it may be" };
  const because = "in a round not long ago";
  const fromRound = lastRound + (minRoundsBetween ?? 0) + 1;
  if (round < fromRound) return { standing: "no", because, fromRound };
  // A wall clock that was set back since would make it wait for longer than it should.
  const fromMs = lastMs + (everyMs ?? 0);
  if (wallMs < fromMs && wallMs >= lastMs) return { standing: "later", because, fromMs };
  return MAY;
}
