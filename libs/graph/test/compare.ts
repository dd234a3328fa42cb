import { expect } from "vitest";
import type { Tensor } from "../src/ir.ts";
import { numbers } from "../src/tensor.ts";

/** Same dtype, shape and values; floats within `absolute + relative·|expected|`, NaN equal to NaN. */
export function expectTensor(
  got: Tensor | undefined,
  expected: Tensor,
  { what, absolute = 1e-5, relative = 1e-4 }: { what: string; absolute?: number; relative?: number },
): void {
  expect({ what, dtype: got?.dtype, shape: [...(got?.shape ?? [])] }).toEqual({
    what,
    dtype: expected.dtype,
    shape: [...expected.shape],
  });
  if (expected.dtype === "string" || expected.dtype === "int64") {
    expect(Array.from(got!.data as ArrayLike<unknown>), what).toEqual(
      Array.from(expected.data as ArrayLike<unknown>),
    );
    return;
  }
  const [a, b] = [numbers(got!), numbers(expected)];
  const bad = b.findIndex((y, i) => {
    const x = a[i]!;
    return !(Object.is(x, y) || x === y || Math.abs(x - y) <= absolute + relative * Math.abs(y));
  });
  expect(bad < 0 ? "equal" : `${what}[${bad}] is ${a[bad]}, expected ${b[bad]}`).toBe("equal");
}
