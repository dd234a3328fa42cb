import fc from "fast-check";
import { describe, test } from "vitest";
import { sizeOf, type Tensor } from "../../src/ir.ts";
import { broadcastPair, dim, flag, property, shapeOf } from "./arbitrary.ts";
import { agrees, f32 } from "./harness.ts";

const wave = (shape: readonly number[], phase = 0): Tensor =>
  f32(
    shape,
    Float32Array.from({ length: sizeOf(shape) }, (_, i) => Math.sin(i * 1.7 + phase)),
  );

describe("Gemm", () => {
  test("all transposes, scales and broadcasts of C, constant or fed", () => {
    const cases = fc.record({
      sizes: fc.tuple(dim, dim, dim),
      transA: flag,
      transB: flag,
      alpha: fc.constantFrom(1, 0.5),
      beta: fc.constantFrom(1, 0, -2),
      c: fc.constantFrom("none", "scalar", "row", "column", "full"),
      constant: fc.subarray([0, 1, 2]),
    });
    return property(
      cases.map(({ sizes: [m, k, n], transA, transB, alpha, beta, c, constant }) => {
        const shapes: Record<string, number[]> = { scalar: [], row: [n], column: [m, 1], full: [m, n] };
        return {
          op: "Gemm",
          attributes: { transA, transB, alpha: { float: alpha }, beta: { float: beta } },
          inputs: [
            wave(transA ? [k, m] : [m, k]),
            wave(transB ? [n, k] : [k, n], 1),
            ...(c === "none" ? [] : [wave(shapes[c]!, 2)]),
          ],
          constant,
        };
      }),
      { runs: 25 },
    );
  });
  test("of no rows, and over nothing", async () => {
    await agrees({ op: "Gemm", inputs: [wave([0, 3]), wave([3, 2]), wave([2])] });
    await agrees({ op: "Gemm", inputs: [wave([2, 0]), wave([0, 3]), wave([3])] });
  });
});

describe("MatMul", () => {
  test("vectors, matrices and batches that broadcast", () =>
    property(
      fc
        .tuple(broadcastPair, fc.tuple(dim, dim, dim), fc.constantFrom(0, 1, 2, 3), fc.subarray([0, 1]))
        .map(([[a, b], [m, k, n], vectors, constant]) => ({
          op: "MatMul",
          inputs: [
            wave(vectors & 1 ? [k] : [...a.slice(0, 3), m, k]),
            wave(vectors & 2 ? [k] : [...b.slice(0, 3), k, n], 1),
          ],
          // A vector has no batch, so slicing the other's is as good.
          constant: vectors === 0 && !fits(a.slice(0, 3), b.slice(0, 3)) ? [] : constant,
        }))
        .filter(({ inputs: [x, y] }) => fits(x!.shape.slice(0, -2), y!.shape.slice(0, -2))),
      { runs: 25 },
    ));
  test("a batch large enough to go one matrix at a time", () =>
    property(
      fc
        .constantFrom(
          [[3], [3]],
          [
            [2, 2],
            [2, 2],
          ],
          [[2, 1], [2]],
          [[], [4]],
          [[4], []],
        )
        .map(([a, b]) => ({
          op: "MatMul",
          inputs: [wave([...a!, 33, 40]), wave([...b!, 40, 35], 1)],
        })),
      { runs: 8 },
    ));
  test("of no rows, over nothing, with NaN", async () => {
    await agrees({ op: "MatMul", inputs: [wave([0, 3]), wave([3, 2])] });
    await agrees({ op: "MatMul", inputs: [wave([2, 0]), wave([0, 3])] });
    await agrees({ op: "MatMul", inputs: [wave([2, 2, 0]), wave([2, 0, 3])] });
    await agrees({ op: "MatMul", inputs: [f32([1, 2], [Number.NaN, 1]), wave([2, 2])] });
  });
  test("shapes drawn freely", () =>
    property(shapeOf(2, 4).map((s) => ({ op: "MatMul", inputs: [wave(s), wave([s.at(-1)!, 3])] }))));
});

/** Whether leading dimensions broadcast. */
function fits(a: readonly number[], b: readonly number[]): boolean {
  const [x, y] = [a.toReversed(), b.toReversed()];
  return x.every((size, axis) => size === 1 || (y[axis] ?? 1) === 1 || size === y[axis]);
}
