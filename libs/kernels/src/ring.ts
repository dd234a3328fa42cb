import { assert } from "@tutti/foundation/check";

/** Adds `y` into `sum`, word by word mod 2^32; a ring of 2^b with b < 32 is its low b bits. */
export function addInto(sum: Uint32Array, y: Uint32Array): void {
  assert(sum.length === y.length, `a sum of ${sum.length} words takes no vector of ${y.length}`);
  for (let i = 0; i < sum.length; i++) sum[i] = sum[i]! + y[i]!;
}
