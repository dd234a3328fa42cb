/** ln(e^a + e^b) without overflow. */
export function logAdd(a: number, b: number): number {
  const [low, high] = a < b ? [a, b] : [b, a];
  return low === -Infinity ? high : high + Math.log1p(Math.exp(low - high));
}

/** ln(e^a − e^b) for a ≥ b. */
export function logSub(a: number, b: number): number {
  return a + Math.log(-Math.expm1(b - a));
}

/** Below it erf's series keeps erfc's digits (erfc(2) is 0.005); above, the fraction converges quickly. */
const SPLIT = 2;

/** ln erfc(x), to 1e-13 relative to erfc, also where erfc itself underflows. */
export function logErfc(x: number): number {
  if (x < 0) return Math.log1p(erfSeries(-x));
  return x < SPLIT ? Math.log1p(-erfSeries(x)) : -x * x + Math.log(scaledErfc(x));
}

/**
 * erf(x) for x ≥ 0 by a series whose terms are all positive (Abramowitz and Stegun 1964, 7.1.6); beyond 6 it
 * is 1 in float64.
 */
function erfSeries(x: number): number {
  if (x > 6) return 1;
  let term = (2 * x) / Math.sqrt(Math.PI);
  let sum = term;
  for (let n = 1; term > sum * 2 ** -56; n++) {
    term *= (2 * x * x) / (2 * n + 1);
    sum += term;
  }
  return Math.min(1, sum * Math.exp(-x * x));
}

/**
 * e^{x²}·erfc(x) for x ≥ 2 by its continued fraction (Abramowitz and Stegun 1964, 7.1.14), innermost first.
 */
function scaledErfc(x: number): number {
  // 100 levels give float64's digits at 2, and fewer would do beyond.
  let tail = x;
  for (let level = 100; level >= 1; level--) tail = x + level / 2 / tail;
  return 1 / (tail * Math.sqrt(Math.PI));
}
