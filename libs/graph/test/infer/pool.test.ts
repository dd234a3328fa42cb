import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { inferNode } from "../../src/infer/infer.ts";
import { runs } from "../runs.ts";
import { type Case, f32, graphOf, reference } from "../tfjs/harness.ts";

/** One spatial axis of a pool. */
type Axis = { size: number; kernel: number; stride: number; dilation: number; pads: [number, number] };

const poolOf = (axis: Axis, ceil: number, op = "MaxPool"): Case => ({
  op,
  opset: 19,
  attributes: {
    kernel_shape: [axis.kernel],
    strides: [axis.stride],
    dilations: [axis.dilation],
    pads: axis.pads,
    ceil_mode: ceil,
  },
  inputs: [f32([1, 1, axis.size], new Float32Array(axis.size).fill(1))],
});

/** Outputs along the axis as we infer them. */
function inferred(pool: Case): number {
  const { nodes, opset, statics } = graphOf(pool, new Map());
  const known = { opset, static: (name: string) => statics.get(name)!, constant: () => undefined };
  return inferNode(nodes[0]!, known)[0]!.shape[2]!;
}

/** The slow twin: windows are laid one after another, as MaxPool's description has it. */
function counted({ size, kernel, stride, dilation, pads }: Axis, ceil: number): number {
  const [before, after] = pads;
  const reach = (kernel - 1) * dilation + 1;
  let count = 0;
  for (let start = -before; ; start += stride) {
    const fits = start + reach <= size + after;
    // With ceil_mode one more window counts, if the one before left something over and it starts before the
    // pads.
    const beyond = start - stride + reach < size + after;
    if (!fits && !(ceil && beyond && (count === 0 || start < size))) return count;
    if (fits && ceil && count > 0 && start >= size) return count;
    count++;
  }
}

const axes: fc.Arbitrary<Axis> = fc
  .record({
    size: fc.integer({ min: 1, max: 9 }),
    kernel: fc.integer({ min: 1, max: 4 }),
    stride: fc.integer({ min: 1, max: 5 }),
    dilation: fc.integer({ min: 1, max: 2 }),
    pads: fc.tuple(fc.nat(3), fc.nat(3)),
  })
  // onnxruntime wants pads smaller than the kernel.
  .filter(({ kernel, pads: [before, after] }) => before < kernel && after < kernel);

describe("how many windows a pool has", () => {
  test("a window that would start in the padding after the input is left out", () => {
    const at = (size: number, kernel: number, stride: number, pads: [number, number]) =>
      inferred(poolOf({ size, kernel, stride, dilation: 1, pads }, 1));
    expect(at(5, 1, 3, [0, 0])).toBe(2);
    expect(at(4, 2, 2, [0, 1])).toBe(2);
    expect(at(5, 2, 2, [0, 1])).toBe(3);
    expect(at(3, 2, 3, [1, 1])).toBe(2);
  });

  test("with ceil_mode a single window may reach beyond the input; without, it is refused", () => {
    const short: Axis = { size: 1, kernel: 2, stride: 4, dilation: 1, pads: [0, 0] };
    expect(inferred(poolOf(short, 1))).toBe(1);
    expect(() => inferred(poolOf(short, 0))).toThrow(/kernel: expected one that fits the padded input/);
  });

  test("as laid out one by one, and as onnxruntime counts", () =>
    fc.assert(
      fc.asyncProperty(axes, fc.nat(1), fc.constantFrom("MaxPool", "AveragePool"), async (axis, ceil, op) => {
        const count = counted(axis, ceil);
        const pool = poolOf(axis, ceil, op);
        // onnxruntime answers with an output of no elements, or a negative number of them.
        if (count === 0) {
          expect(() => inferred(pool)).toThrow(/kernel/);
          return;
        }
        expect(inferred(pool), "ours").toBe(count);
        const wanted = await reference(pool);
        expect(wanted.get("y0")!.shape[2], "onnxruntime's").toBe(count);
      }),
      { numRuns: runs(150) },
    ));
});
