import { Fault } from "@tutti/foundation/fault";

/** Everyone shares with everyone up to here; the sparse graph of Bell et al. 2020 (Alg. 3) is for more. */
export const MAX_MEMBERS = 100;
/**
 * Two is the fewest that Shamir's scheme can split for. What a sum should have is each device's own floor.
 */
export const MIN_MEMBERS = 2;

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

/** @throws Fault("unsupported") for more members than the full graph takes. */
export function checkSize(n: number): void {
  if (n <= MAX_MEMBERS) return;
  throw new Fault("unsupported", "members of one session", {
    expected: `at most ${MAX_MEMBERS}`,
    got: `${n}`,
    todo: "The sparse graph for larger cohorts comes later; use a smaller cohort",
  });
}
