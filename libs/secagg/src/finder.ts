import { checkInteger, demand } from "@tutti/foundation/check";
import { Fault } from "@tutti/foundation/fault";

/** What the graph of a session must withstand. */
export type GraphNeed = {
  /** Members of the session. */
  readonly n: number;
  /** γ, the share of them that the coordinator may control. */
  readonly corrupt: number;
  /** δ, the share of them that may vanish. */
  readonly lost: number;
  /** Against a coordinator that lies, rather than one that only looks. */
  readonly malicious: boolean;
};

/** k share-holders for each member, and how many of their shares give a secret back: t. */
export type GraphSize = { readonly degree: number; readonly threshold: number };

/** The search is O(n²) at worst, where nothing fits; a session itself has at most 1,000 members. */
const MAX_N = 10_000;
/** 40 bits of security over two events, 41 each: a graph torn apart, a secret opened by the corrupt. */
const SECURE = 2 ** -41;
/** 20 bits of correctness: that so few of a member's holders stay that its secret is lost. */
const CORRECT = 2 ** -20;

/**
 * The smallest even degree k ≤ n − 1 that is secure and correct, with its threshold (Bell et al. 2020,
 * section 3.3 and Theorem 3.10). Holders are drawn without replacement, so how many are corrupt, or stay,
 * is hypergeometric. Each device computes it for itself and believes no other.
 * @throws Fault("bad-input") for numbers out of range, and where no degree will do.
 */
export function findGraph(need: GraphNeed): GraphSize {
  const { n, malicious } = need;
  checkInteger("graph: members", n, [3, MAX_N]);
  const corrupt = countOf("corrupt", need.corrupt, n);
  const lost = countOf("lost", need.lost, n);
  const lnF = logFactorials(n);
  for (let k = 2; k <= n - 1; k += 2) {
    if (lnTorn({ n, k, bad: corrupt + lost }, lnF) >= Math.log(SECURE)) continue;
    const fewest = fewestThatStay({ n, marked: n - lost, k }, { lnF, limit: CORRECT / n });
    const most = mostCorrupt({ n, marked: corrupt, k }, { lnF, limit: SECURE / n });
    // A liar may ask each half of the honest holders for another share: 2t > k + corrupt.
    const below = malicious ? Math.floor((k + most) / 2) : most;
    if (below < fewest) return { degree: k, threshold: Math.max(below + 1, 2) };
  }
  throw new Fault("bad-input", `a graph for ${n} members`, {
    expected: `a degree below ${n} that withstands ${corrupt} corrupt and ${lost} lost`,
    got: "none",
    todo: "Assume fewer corrupt or lost, or take more members",
  });
}

/** floor(share·n), where the share is a decimal that no double is: 0.29·100 is 29. */
function countOf(what: string, share: number, n: number): number {
  demand(
    share >= 0 && share < 1,
    () => new Fault("bad-input", `graph: ${what}`, { expected: "a share in [0, 1)", got: `${share}` }),
  );
  return Math.floor(share * n + 1e-9);
}

/**
 * ln of a bound on the chance that honest members who stay are not connected, for Harary's ring of degree k
 * in random order; holders that each member picks for itself connect at least as well. If the `bad` members
 * are fewer than k they cannot cut it.
 */
function lnTorn({ n, k, bad }: { n: number; k: number; bad: number }, lnF: Float64Array): number {
  if (k > bad || n - k - 1 === 0) return Number.NEGATIVE_INFINITY;
  const pairs = Math.log(n) + Math.log(n - k - 1) - Math.LN2;
  return pairs + lnF[bad]! + lnF[n - k]! - lnF[n]! - lnF[bad - k]!;
}

/** k drawn out of n without replacement, `marked` of which are of the kind that is counted. */
type Draw = { readonly n: number; readonly marked: number; readonly k: number };
type Tail = { readonly lnF: Float64Array; readonly limit: number };

/** The smallest x with P[X > x] ≤ limit. */
function mostCorrupt(draw: Draw, { lnF, limit }: Tail): number {
  const low = Math.max(0, draw.k - (draw.n - draw.marked));
  let x = Math.min(draw.k, draw.marked);
  // From the far end, where a term that underflows is far below the limit anyway.
  for (let tail = 0; x > low; x--) {
    tail += Math.exp(lnChance(draw, x, lnF));
    if (tail > limit) break;
  }
  return x;
}

/** The largest t with P[X < t] ≤ limit. */
function fewestThatStay(draw: Draw, { lnF, limit }: Tail): number {
  const high = Math.min(draw.k, draw.marked);
  let t = Math.max(0, draw.k - (draw.n - draw.marked));
  for (let tail = 0; t < high; t++) {
    tail += Math.exp(lnChance(draw, t, lnF));
    if (tail > limit) break;
  }
  return t;
}

/** ln P[X = x] = ln [ C(marked, x)·C(n − marked, k − x) / C(n, k) ]. */
function lnChance({ n, marked, k }: Draw, x: number, lnF: Float64Array): number {
  const choose = (from: number, of: number) => lnF[from]! - lnF[of]! - lnF[from - of]!;
  return choose(marked, x) + choose(n - marked, k - x) - choose(n, k);
}

/** ln i! for i ≤ n, by compensated summation (Kahan 1965): within a few ulps, where lgamma would be worse. */
function logFactorials(n: number): Float64Array {
  const table = new Float64Array(n + 1);
  let carry = 0;
  for (let i = 2; i <= n; i++) {
    const term = Math.log(i) - carry;
    table[i] = table[i - 1]! + term;
    carry = table[i]! - table[i - 1]! - term;
  }
  return table;
}
