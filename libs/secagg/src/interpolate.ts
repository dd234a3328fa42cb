import { assert } from "@tutti/foundation/check";

// GF(256) as in AES, x^8 + x^4 + x^3 + x + 1: the field that `shamir-secret-sharing` splits in. Its own
// `combine` finds the same value by 32·t² products and quotients; for a coordinator's thousand secrets that
// costs more than their mask streams.

const ORDER = 255;
/** Where log 0 points: beyond it, and any log above it, powers are 0, so a product needs no branch. */
const LOG_ZERO = 2 * ORDER;
/** Powers of 3, a generator, twice round, then zeros. */
const EXP = new Uint8Array(LOG_ZERO + 2 * ORDER);
const LOG = new Uint16Array(256);

for (let power = 0, value = 1; power < LOG_ZERO; power++) {
  EXP[power] = value;
  LOG[value] = power % ORDER;
  // 3·v = 2·v + v.
  value ^= (value << 1) ^ (value & 0x80 ? 0x11b : 0);
}
LOG[0] = LOG_ZERO;
assert(EXP[ORDER] === 1 && LOG[3] === 1, "3 generates the field's 255 units");

/**
 * The value at 0 of the polynomials that go through all points, for each byte one: a point is its values and,
 * last, its x (Shamir 1979, by Lagrange's formula). Null for points that no honest split makes: an x that is
 * 0, or there twice. O(t² + t·bytes), since the weights are the same for every byte.
 */
export function interpolateAtZero(points: readonly Uint8Array[]): Uint8Array | null {
  const last = points[0]!.length - 1;
  const xs = Uint8Array.from(points, (point) => point[last]!);
  if (xs.includes(0) || new Set(xs).size < xs.length) return null;
  let all = 0;
  for (const x of xs) all += LOG[x]!;
  const value = new Uint8Array(last);
  for (let i = 0; i < xs.length; i++) {
    // log of Π x_j / (x_i − x_j) over j ≠ i; logs add up mod 255, and the j = i below adds LOG_ZERO.
    let below = LOG[xs[i]!]! - LOG_ZERO;
    for (let j = 0; j < xs.length; j++) below += LOG[xs[i]! ^ xs[j]!]!;
    const weight = (all + ORDER * xs.length - below) % ORDER;
    const point = points[i]!;
    for (let at = 0; at < last; at++) value[at] = value[at]! ^ EXP[LOG[point[at]!]! + weight]!;
  }
  return value;
}
