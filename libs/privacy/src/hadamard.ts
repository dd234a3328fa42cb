/** x ← H·x in place, unnormalised, for a power of two of values: every butterfly of the fast transform. */
export function walshHadamard(x: Float32Array): void {
  for (let half = 1; half < x.length; half *= 2) {
    for (let at = 0; at < x.length; at += 2 * half) {
      for (let i = at; i < at + half; i++) {
        const [a, b] = [x[i]!, x[i + half]!];
        x[i] = a + b;
        x[i + half] = a - b;
      }
    }
  }
}
