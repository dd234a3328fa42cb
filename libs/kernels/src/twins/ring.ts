/** `addInto` in TypeScript; lengths are equal. */
export function addIntoTwin(sum: Uint32Array, y: Uint32Array): void {
  for (let i = 0; i < sum.length; i++) sum[i] = sum[i]! + y[i]!;
}
