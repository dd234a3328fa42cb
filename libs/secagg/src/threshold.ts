import { assert } from "@tutti/foundation/check";
import { Fault } from "@tutti/foundation/fault";

/** Up to here everyone shares with everyone (Bonawitz et al. 2017); beyond, with a few (Bell et al. 2020). */
export const FULL_GRAPH = 100;
/** A cohort's most devices; more of them are more cohorts. */
export const MAX_MEMBERS = 1000;
/** Most holders of one device's shares: GF(256) has so many places beside the secret's own. */
export const MAX_DEGREE = 255;
/**
 * Two is the fewest that Shamir's scheme can split for. What a sum should have is each device's own floor.
 */
export const MIN_MEMBERS = 2;

assert(MAX_MEMBERS <= 1 << 16, "a member's place in the roster fits two bytes");

/** How many of n the coordinator may control, by default: ceil(n/3) − 1 (docs/protocol.md, Threshold). */
export function corruptible(n: number): number {
  return Math.ceil(n / 3) - 1;
}

/**
 * The smallest t with 2t > n + n_C (Bonawitz et al. 2017, Theorem 6.5): any two sets of t members then share
 * an honest one, who answers once. It is the quorum of attestations too: more than (n + n_C)/2.
 */
export function thresholdFor(n: number): number {
  return Math.floor((n + corruptible(n)) / 2) + 1;
}

/**
 * Fewest members that a sum over n may end with: the quorum, and beyond 100 as many as the graph of
 * share-holders was found for, of `picked` who were in its roster (`lost` in thousandths).
 */
export function leastFor(n: number, { lost, picked = n }: { lost: number; picked?: number }): number {
  const quorum = thresholdFor(n);
  return picked <= FULL_GRAPH ? quorum : Math.max(quorum, picked - Math.floor((picked * lost) / 1000));
}

/** @throws Fault("unsupported") for more members than one session takes. */
export function checkSize(n: number, most = MAX_MEMBERS): void {
  if (n <= most) return;
  throw new Fault("unsupported", "members of one session", {
    expected: `at most ${most}`,
    got: `${n}`,
    todo: "Use more cohorts",
  });
}
