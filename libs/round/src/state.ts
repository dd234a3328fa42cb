import { shortened } from "@tutti/foundation/text";
import { fewestDevices } from "@tutti/plan/cohort";
import type { JournalEntry } from "@tutti/wire/journal";
import type { Cohort } from "./cohorts.ts";
import type { RoundSpec } from "./spec.ts";
import type { Trust } from "./summing.ts";

/** One attempt of one round; `step` (round.ts) goes from one such state to the next. */
export type Round = {
  readonly spec: RoundSpec;
  readonly trust: Trust;
  readonly phase: "gathering" | "training" | "summing" | "unmasking" | "failed";
  /** On the clock of the entries; when it passes, the phase closes with who came. */
  readonly deadlineMs: number;
  /** The end of the time for coming, whatever the deadline was while enough were here. */
  readonly joinUntilMs: number;
  readonly connected: ReadonlySet<string>;
  readonly invited: ReadonlySet<string>;
  readonly ready: ReadonlySet<string>;
  readonly declined: ReadonlyMap<string, string>;
  /** Devices that were revoked since the round began. */
  readonly revoked: ReadonlySet<string>;
  /** None until the devices that are ready are dealt into them; from then on as many, dropped or not. */
  readonly cohorts: readonly Cohort[];
  /** What this round's central noise is drawn from; null until it is needed, and in other modes. */
  readonly noise: Uint8Array | null;
  /** Why the round failed; empty while it has not. */
  readonly reason: string;
  /** Its journal goes on behind an entry that does not replay: what was revealed there, nobody knows. */
  readonly abandoned?: true;
};

export type Entry = Pick<JournalEntry, "nowMs" | "device" | "event">;

export type Effect =
  /** Add the vector that this device just sent to its cohort's running sum, in the entry's transaction. */
  | { readonly kind: "add-vector"; readonly device: string; readonly cohort: number }
  /** Unmask the sums, combine their means, take the strategy's step, publish. */
  | { readonly kind: "complete" }
  | { readonly kind: "fail"; readonly reason: string };

/** The run's header holds it, which every status and every commit carries. */
export const MAX_REASON = 2_000;

export function fail(round: Round, reason: string): Round {
  const said = shortened(reason, MAX_REASON);
  return { ...round, phase: "failed", reason: said, deadlineMs: Number.POSITIVE_INFINITY };
}

/** With what devices said that declined: it may be why. What most of them said comes first. */
export function failWith(round: Round, said: string): Round {
  const by = new Map<string, string[]>();
  for (const [device, why] of round.declined) {
    const same = by.get(why);
    if (same) same.push(device);
    else by.set(why, [device]);
  }
  const groups = [...by].sort(([, a], [, b]) => b.length - a.length);
  const refusals = groups.map(([why, devices]) => `${groupOf(devices)} declined: ${why}`);
  return fail(round, [said, ...refusals].join("; "));
}

function groupOf(devices: readonly string[]): string {
  return devices.length === 1 ? `${devices[0]}` : `${devices.length} devices`;
}

export function tooFew(round: Round, what: string, count: number): Round {
  return failWith(round, `${count} of at least ${fewestDevices(round.spec.plan)} devices ${what}`);
}

export function plus<T>(set: ReadonlySet<T>, item: T): ReadonlySet<T> {
  return new Set([...set, item]);
}

export function minus<T>(set: ReadonlySet<T>, item: T): ReadonlySet<T> {
  return new Set([...set].filter((other) => other !== item));
}
