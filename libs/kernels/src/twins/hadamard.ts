/** `walshHadamard` in TypeScript; the length is a power of two. */
export function walshHadamardTwin(x: Float32Array): void {
  for (let stride = 1; stride < x.length; stride *= 2) {
    for (let row = 0; row < x.length; row += 2 * stride) {
      for (let at = row; at < row + stride; at++) {
        const [upper, lower] = [x[at]!, x[at + stride]!];
        x[at] = upper + lower;
        x[at + stride] = upper - lower;
      }
    }
  }
  // Stored numbers are float32: sums and products of two, made in float64, round to the same float32.
  const factor = Math.fround(1 / Math.sqrt(x.length));
  for (let at = 0; at < x.length; at++) x[at] = x[at]! * factor;
}
