import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { builderOn } from "../../src/builder.ts";
import { differentiate } from "../../src/differentiate.ts";
import { float32 } from "../../src/ir.ts";
import { runs } from "../runs.ts";
import { checkGradient } from "./check.ts";

const size = fc.integer({ min: 1, max: 3 });

describe("Gemm", () => {
  test("all transposes, alpha, beta, every shape of C, frozen or not", () =>
    fc.assert(
      fc.asyncProperty(
        fc.record({ m: size, k: size, n: size, transA: fc.nat(1), transB: fc.nat(1), frozen: fc.boolean() }),
        fc.constantFrom("none", "scalar", "row", "column", "full"),
        fc.constantFrom(1, 0.5),
        ({ m, k, n, transA, transB, frozen }, c, factor) => {
          const bias = { none: undefined, scalar: [], row: [n], column: [m, 1], full: [m, n] }[c];
          return checkGradient({
            op: "Gemm",
            inputs: [
              { shape: transA ? [k, m] : [m, k] },
              { shape: transB ? [n, k] : [k, n], frozen },
              bias && { shape: bias },
            ].slice(0, bias ? 3 : 2),
            attributes: { transA, transB, alpha: { float: factor }, beta: { float: 2 * factor } },
          });
        },
      ),
      { numRuns: runs(16) },
    ));

  /** The step of x·W·V with both weights frozen, W being [3, width]. */
  function frozenStep(width: number) {
    const b = builderOn();
    const x = b.input({ name: "x", dtype: "float32", shape: [2, 3] });
    const w = b.constant(float32([3, width], new Float32Array(3 * width).fill(1)), "weight");
    const v = b.constant(float32([width, 5], new Float32Array(5 * width)));
    const y = b.emit("MatMul", [b.emit("Gemm", [x, w]), v]);
    b.output(b.emit("ReduceSum", [y], { axes: [0, 1], keepdims: 0 }), "loss");
    return differentiate(b.finish(), { loss: "loss", wrt: ["x"] });
  }

  test("a small frozen weight is transposed when the graph is built", () => {
    expect(frozenStep(4).nodes.map((node) => node.op)).not.toContain("Transpose");
  });

  test("a large frozen weight is transposed by a node over a constant, for an engine to fold", () => {
    const { nodes, initializers } = frozenStep(30_000);
    const transposes = nodes.filter(({ op }) => op === "Transpose");
    expect(transposes).toHaveLength(2);
    for (const { inputs } of transposes) expect(initializers.has(inputs[0]!)).toBe(true);
  });
});

describe("MatMul", () => {
  const stacks = fc
    .array(fc.tuple(size, fc.constantFrom("both", "left", "right")), { maxLength: 2 })
    .map((axes) => ({
      left: axes.map(([d, who]) => (who === "right" ? 1 : d)),
      right: axes.map(([d, who]) => (who === "left" ? 1 : d)),
    }));

  test("stacks of matrices, broadcast either way, ranks that differ", () =>
    fc.assert(
      fc.asyncProperty(
        stacks,
        fc.tuple(size, size, size),
        fc.tuple(fc.nat(2), fc.boolean()),
        (stack, [m, k, n], cut) => {
          const [drop, fromLeft] = cut;
          const left = fromLeft ? stack.left.slice(drop) : stack.left;
          const right = fromLeft ? stack.right : stack.right.slice(drop);
          return checkGradient({
            op: "MatMul",
            inputs: [{ shape: [...left, m, k] }, { shape: [...right, k, n] }],
          });
        },
      ),
      { numRuns: runs(12) },
    ));

  for (const [a, b] of [
    [[3], [3]],
    [[3], [3, 2]],
    [[2, 3], [3]],
    [[2, 2, 3], [3]],
    [[3], [2, 3, 2]],
  ] as const) {
    test(`[${a}] · [${b}]`, () => checkGradient({ op: "MatMul", inputs: [{ shape: a }, { shape: b }] }));
  }

  test("with a frozen side", async () => {
    await checkGradient({ op: "MatMul", inputs: [{ shape: [2, 3, 4] }, { shape: [4, 5], frozen: true }] });
    await checkGradient({ op: "MatMul", inputs: [{ shape: [3, 4], frozen: true }, { shape: [2, 4, 5] }] });
  });

  test("a matrix under a stack gets its gradient as one product over all rows", () => {
    const b = builderOn();
    const x = b.input({ name: "x", dtype: "float32", shape: [4, 3, 5] });
    const w = b.input({ name: "w", dtype: "float32", shape: [5, 6] });
    b.output(b.emit("ReduceSum", [b.emit("MatMul", [x, w])], { axes: [0, 1, 2], keepdims: 0 }), "loss");
    const graph = differentiate(b.finish(), { loss: "loss", wrt: ["w"] });
    const products = graph.nodes.filter((node) => node.op === "MatMul").slice(1);
    expect(products.map((node) => graph.statics.get(node.outputs[0]!)!.shape)).toEqual([[5, 6]]);
  });
});
