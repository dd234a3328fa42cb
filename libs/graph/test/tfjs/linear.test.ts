import fc from "fast-check";
import { describe, test } from "vitest";
import type { Tensor } from "../../src/ir.ts";
import { sizeOf } from "../../src/ir.ts";
import { agrees, type Case, f32 } from "./harness.ts";

const dim = fc.integer({ min: 1, max: 6 });

export function wave(shape: readonly number[], phase = 0): Tensor {
  return f32(
    shape,
    Float32Array.from({ length: sizeOf(shape) }, (_, i) => Math.sin(i * 1.7 + phase)),
  );
}

describe("Gemm", () => {
  test("all transposes, scales and broadcasts of C, constant or fed", async () => {
    const cases = fc.record({
      m: dim,
      k: dim,
      n: dim,
      transA: fc.integer({ min: 0, max: 1 }),
      transB: fc.integer({ min: 0, max: 1 }),
      alpha: fc.constantFrom(1, 0.5),
      beta: fc.constantFrom(1, 0, -2),
      c: fc.constantFrom("none", "scalar", "row", "column", "full"),
      held: fc.boolean(),
    });
    await fc.assert(
      fc.asyncProperty(cases, async ({ m, k, n, transA, transB, alpha, beta, c, held }) => {
        const shapes: Record<string, number[]> = { scalar: [], row: [n], column: [m, 1], full: [m, n] };
        const test: Case = {
          op: "Gemm",
          attributes: { transA, transB, alpha: { float: alpha }, beta: { float: beta } },
          inputs: [
            wave(transA ? [k, m] : [m, k]),
            wave(transB ? [n, k] : [k, n], 1),
            ...(c === "none" ? [] : [wave(shapes[c]!, 2)]),
          ],
          constant: held ? [1, 2] : [],
        };
        await agrees(test);
      }),
      { numRuns: 40 },
    );
  });
});
