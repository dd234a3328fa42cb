import { assert } from "@tutti/foundation/check";
import { type SeededRandom, seededRandom } from "@tutti/foundation/random";
import { split } from "shamir-secret-sharing";
import { interpolateAtZero } from "./interpolate.ts";

/** A share of a 32-byte secret: a point's 32 values and its x. */
export const SHARE_BYTES = 33;
/** Subsets tried before a secret counts as lost: a bound on what one bad share may cost the coordinator. */
const MAX_ATTEMPTS = 1000;

/**
 * One share of a 32-byte secret for each holder; any `threshold` of them give it back (Shamir 1979, over
 * GF(256)).
 */
export async function splitSecret(
  secret: Uint8Array,
  { holders, threshold }: { holders: readonly string[]; threshold: number },
): Promise<Map<string, Uint8Array>> {
  assert(secret.length === SHARE_BYTES - 1, "secrets are 32 bytes");
  const shares = await split(secret, holders.length, threshold);
  return new Map(holders.map((holder, i) => [holder, shares[i]!]));
}

/**
 * A secret that passed `good`, the holders whose shares do not fit it, and whether those must be the liars.
 */
export type Reconstruction = {
  readonly secret: Uint8Array;
  readonly misfits: readonly string[];
  readonly certain: boolean;
};

/**
 * The secret behind shares of which some may be lies: subsets of `threshold` shares until one gives a secret
 * that is `good`. Holders in `suspects`, whose shares did not fit before, come last, so a liar is searched
 * for once and not once per device. Null when no subset tried is good. The same input gives the same answer.
 */
export function reconstruct(
  shares: ReadonlyMap<string, Uint8Array>,
  options: { threshold: number; good: (secret: Uint8Array) => boolean; suspects: ReadonlySet<string> },
): Reconstruction | null {
  const { threshold, good, suspects } = options;
  const all = [...shares.keys()].sort();
  const holders = [...all.filter((name) => !suspects.has(name)), ...all.filter((name) => suspects.has(name))];
  for (const chosen of attempts(holders, threshold)) {
    const secret = interpolateAtZero(chosen.map((name) => shares.get(name)!));
    if (!secret || !good(secret)) continue;
    // No lie was met: whoever was not asked is not accused, and nobody pays for the search.
    if (chosen.every((name, i) => name === holders[i])) return { secret, misfits: [], certain: true };
    const misfits = findMisfits(shares, chosen, secret);
    return { secret, misfits, certain: mustBeLiars(misfits.length, shares.size, threshold) };
  }
  return null;
}

/**
 * A share fits when it may stand in for a chosen one: t − 1 of those, it, and the same secret at 0 are t + 1
 * points of one polynomial of degree t − 1.
 */
function findMisfits(
  shares: ReadonlyMap<string, Uint8Array>,
  chosen: readonly string[],
  secret: Uint8Array,
): string[] {
  const good = chosen.slice(1).map((name) => shares.get(name)!);
  const misfits: string[] = [];
  for (const [name, share] of shares) {
    if (chosen.includes(name)) continue;
    const other = interpolateAtZero([...good, share]);
    if (!other?.every((byte, i) => byte === secret[i])) misfits.push(name);
  }
  return misfits.sort();
}

/**
 * Liars whose errors cancel can put honest holders in the wrong: two polynomials with one secret share at
 * most t − 2 points, so that takes m − t + 2 − misfits liars. Blame falls only where framing would take more
 * of them than it blames.
 */
function mustBeLiars(misfits: number, m: number, t: number): boolean {
  return misfits < m - t + 2 - misfits;
}

/** The first t; then all other subsets where they are few, else random ones. */
function* attempts(holders: readonly string[], t: number): Generator<string[]> {
  if (holders.length < t) return;
  if (choose(holders.length, t) <= MAX_ATTEMPTS) return yield* subsets(holders, t);
  yield holders.slice(0, t);
  const random: SeededRandom = seededRandom(holders.join("/"));
  for (let i = 1; i < MAX_ATTEMPTS; i++) yield random.shuffle(holders).slice(0, t);
}

function* subsets(items: readonly string[], size: number): Generator<string[]> {
  if (size === 0) return yield [];
  for (let i = 0; i + size <= items.length; i++) {
    for (const rest of subsets(items.slice(i + 1), size - 1)) yield [items[i]!, ...rest];
  }
}

function choose(n: number, k: number): number {
  let ways = 1;
  for (let i = 1; i <= k; i++) ways = (ways * (n - k + i)) / i;
  return ways;
}
