/** A step is small against the distances at hand; each iteration reads every vector twice. */
const TOLERANCE = 1e-7;
const MAX_ITERATIONS = 200;
/** ν of the paper, as a share of the vectors' own spread, since updates have no scale of their own. */
const SMOOTHING = 1e-6;

/**
 * The point with the least sum of distances to the vectors, one vote each, by the smoothed Weiszfeld method
 * (Pillutla et al. 2022, Algorithm 2): z ← Σβx / Σβ, β = 1 / max(ν, |z − x|). It begins at `start`, which
 * should be robust itself: from there it takes few iterations however far off some vectors are.
 * With q of m vectors arbitrary, q < m/2, it stays within 2(m−q)/(m−2q)·r of any point that has all others
 * within r (Lopuhaä and Rousseeuw 1991; Minsker 2015, Lemma 2.1).
 */
export function geometricMedian(vectors: readonly Float32Array[], start: Float32Array): Float32Array {
  let point = Float64Array.from(start);
  const spread = vectors.map((vector) => distance(vector, point)).sort((a, b) => a - b);
  const typical = spread[Math.floor(spread.length / 2)] as number;
  // More than half of them lie on the point itself, and nothing can outweigh them.
  if (typical === 0) return start;
  for (let i = 0; i < MAX_ITERATIONS; i++) {
    const weights = vectors.map((vector) => 1 / Math.max(SMOOTHING * typical, distance(vector, point)));
    const total = weights.reduce((sum, weight) => sum + weight, 0);
    const next = average(vectors, weights, total);
    const step = distance(next, point);
    point = next;
    // The harmonic mean of the distances: one far vector does not make every step look small.
    if (step <= (TOLERANCE * vectors.length) / total) break;
  }
  return Float32Array.from(point);
}

function average(
  vectors: readonly Float32Array[],
  weights: readonly number[],
  total: number,
): Float64Array<ArrayBuffer> {
  const sum = new Float64Array((vectors[0] as Float32Array).length);
  vectors.forEach((vector, at) => {
    const share = weights[at]! / total;
    for (let i = 0; i < sum.length; i++) sum[i] = sum[i]! + share * vector[i]!;
  });
  return sum;
}

function distance(a: Float32Array | Float64Array, b: Float64Array): number {
  let squares = 0;
  for (let i = 0; i < b.length; i++) squares += (a[i]! - b[i]!) ** 2;
  return Math.sqrt(squares);
}
