import { equalBytes } from "@tutti/foundation/bytes";
import type { House } from "./house.ts";
import { journalOf } from "./journal.ts";
import { smallRun } from "./recipe.ts";
import { takeTurns } from "./turns.ts";

const SEED = 7;
/**
 * Where the coordinator dies: around the commit that holds an upload, or as soon as the site has its answer.
 */
export const MOMENTS = ["before", "committed", "acknowledged"] as const;
export type Moment = (typeof MOMENTS)[number];

export type Case = { readonly when: Moment; readonly uploads: number; readonly awayMs: number };

export type Resumed = {
  readonly finished: boolean;
  readonly attempts: number;
  readonly failures: readonly string[];
  readonly survivors: number;
  /** Uploads that were durable when the coordinator died. */
  readonly durable: number;
  /** Each vector was counted once, through both lives of the coordinator. */
  readonly once: boolean;
  /** The adapter released is the one of the undisturbed run, byte for byte. */
  readonly same: boolean;
  /** From the start of a new process until it serves, and until the commit that ends the round. */
  readonly backMs: number;
  readonly resumeMs: number;
};

export function isResumed(met: Resumed, { when, uploads, sites }: Case & { sites: number }): boolean {
  const { finished, attempts, survivors, durable, once, same, resumeMs } = met;
  // Where a death comes before the commit, the vector in hand is not durable yet.
  const expected = when === "before" ? uploads - 1 : uploads;
  // A round that was over before its coordinator died would say nothing.
  const interrupted = resumeMs > 0;
  const whole = attempts === 1 && survivors === sites && durable === expected;
  return finished && interrupted && whole && once && same;
}

/** What the recipe releases when nothing happens on the way. */
export async function undisturbedAdapter(house: House): Promise<Uint8Array> {
  takeTurns(house);
  const run = await house.begin(smallRun({ name: "undisturbed", seed: SEED }));
  await house.over(run);
  const [, trained] = await house.releases(run);
  return trained?.adapter ?? new Uint8Array();
}

/**
 * The same recipe under another name, so that the same words are summed; the coordinator dies once on the
 * way.
 */
export async function killed(
  house: House,
  { when, uploads, awayMs, undisturbed }: Case & { undisturbed: Uint8Array },
): Promise<Resumed> {
  const first = house.coordinator;
  const turns = takeTurns(house);
  if (when === "acknowledged") turns.onAcknowledged(uploads, () => void first.kill());
  else await house.armCoordinator({ uploads, when });
  const run = await house.begin(smallRun({ name: `killed-${when}-${uploads}-${awayMs}`, seed: SEED }));
  await first.ended;
  const durable = journalOf(house, run).uploads.length;
  await new Promise((resolve) => setTimeout(resolve, awayMs));
  const startMs = performance.now();
  await house.serve();
  const backMs = Math.round(performance.now() - startMs);
  const { state, history } = await house.over(run);
  const { uploads: all, attempts, failures, endedMs } = journalOf(house, run);
  const [, trained] = await house.releases(run);
  return {
    finished: state === "finished",
    attempts,
    failures,
    survivors: history[0]?.survivors ?? 0,
    durable,
    once: all.length === house.sites.size && new Set(all).size === house.sites.size,
    same: trained !== undefined && equalBytes(trained.adapter, undisturbed),
    backMs,
    resumeMs: Math.round(endedMs - startMs),
  };
}
