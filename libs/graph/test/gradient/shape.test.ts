import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { builderOn } from "../../src/builder.ts";
import { differentiate } from "../../src/differentiate.ts";
import { float32 } from "../../src/ir.ts";
import { runs } from "../runs.ts";
import { checkGradient, int64 } from "./check.ts";
import { run64 } from "./twin.ts";

const ints = (...values: readonly number[]) => ({ tensor: int64([values.length], values) });
const shapes = fc.array(fc.integer({ min: 1, max: 4 }), { minLength: 1, maxLength: 3 });

describe("positions renamed", () => {
  const x = { shape: [2, 3, 4] };
  test("Reshape gives the gradient the input's shape", () =>
    checkGradient({ op: "Reshape", inputs: [x, ints(4, -1)] }));
  test("Flatten gives the gradient the input's shape", () =>
    checkGradient({ op: "Flatten", inputs: [x], attributes: { axis: 2 } }));
  test("Squeeze", () => checkGradient({ op: "Squeeze", inputs: [{ shape: [2, 1, 3] }, ints(1)] }));
  test("Unsqueeze", () => checkGradient({ op: "Unsqueeze", inputs: [x, ints(0, -1)] }));
  test("Transpose", async () => {
    await checkGradient({ op: "Transpose", inputs: [x], attributes: { perm: [2, 0, 1] } });
    await checkGradient({ op: "Transpose", inputs: [x] });
  });
  test("Expand", () => checkGradient({ op: "Expand", inputs: [{ shape: [2, 1] }, ints(3, 2, 4)] }));
  test("Tile", () => checkGradient({ op: "Tile", inputs: [x, ints(2, 1, 3)] }));
});

test("Trilu, either side and off the diagonal", async () => {
  for (const upper of [0, 1]) {
    const k = { tensor: int64([], [1]) };
    await checkGradient({ op: "Trilu", inputs: [{ shape: [2, 3, 4] }, k], attributes: { upper } });
    await checkGradient({ op: "Trilu", inputs: [{ shape: [3, 3] }], attributes: { upper } });
  }
});

test("CumSum in all four ways", async () => {
  for (const reverse of [0, 1]) {
    for (const exclusive of [0, 1]) {
      const axis = { tensor: int64([], [1]) };
      await checkGradient({
        op: "CumSum",
        inputs: [{ shape: [2, 4] }, axis],
        attributes: { reverse, exclusive },
      });
    }
  }
});

describe("Concat and Split", () => {
  test("Concat of three along each axis", async () => {
    for (const axis of [0, 1, -1]) {
      const part = (size: number) => ({ shape: [2, 2, 2].map((d, i) => (i === (axis + 3) % 3 ? size : d)) });
      await checkGradient({ op: "Concat", inputs: [part(1), part(3), part(2)], attributes: { axis } });
    }
  });

  test("Split, even and uneven", async () => {
    await checkGradient({ op: "Split", inputs: [{ shape: [2, 6] }], attributes: { axis: 1 }, outputs: 3 });
    await checkGradient({ op: "Split", inputs: [{ shape: [5, 2] }, ints(1, 4)], outputs: 2 });
  });

  test("a part nobody reads counts as zeros", () => {
    const b = builderOn();
    const x = b.input({ name: "x", dtype: "float32", shape: [4] });
    const parts = b.emitMany("Split", [x, b.ints([1, 3])], { outputs: 2, attributes: { axis: 0 } });
    b.output(b.emit("ReduceSum", [parts[1]!], { axes: [0], keepdims: 0 }), "loss");
    const graph = differentiate(b.finish(), { loss: "loss", wrt: ["x"] });
    const got = run64(graph, new Map([["x", float32([4], new Float32Array(4))]])).get("grad.x")!.data;
    expect([...(got as Float32Array)]).toEqual([0, 1, 1, 1]);
  });
});

describe("Slice", () => {
  const bound = fc.integer({ min: -6, max: 6 });
  const step = fc.constantFrom(-3, -2, -1, 1, 2, 3);

  test("any bounds and steps along any axis", () =>
    fc.assert(
      fc.asyncProperty(shapes, fc.nat(2), fc.tuple(bound, bound, step), (shape, pick, [start, end, by]) => {
        const axis = pick % shape.length;
        const axes = ints(pick % 2 === 0 ? axis : axis - shape.length);
        const size = shape[axis]!;
        const clamp = (v: number) =>
          Math.min(Math.max(v < 0 ? v + size : v, by > 0 ? 0 : -1), by > 0 ? size : size - 1);
        // onnxruntime's reductions of nothing are not what is tested here.
        fc.pre((clamp(end) - clamp(start)) * by > 0);
        return checkGradient({ op: "Slice", inputs: [{ shape }, ints(start), ints(end), axes, ints(by)] });
      }),
      { numRuns: runs(16) },
    ));

  test("several axes at once, ends at INT64_MAX", () =>
    checkGradient({
      op: "Slice",
      inputs: [
        { shape: [3, 4, 2] },
        ints(1, 0),
        { tensor: { dtype: "int64", shape: [2], data: BigInt64Array.of(2n ** 63n - 1n, 3n) } },
      ],
    }));
});

describe("Pad", () => {
  test("zeros and other constants, negative pads crop", () =>
    fc.assert(
      fc.asyncProperty(shapes, fc.infiniteStream(fc.integer({ min: -1, max: 2 })), (shape, edges) => {
        const pads = [...shape, ...shape].map(() => edges.next().value as number);
        fc.pre(shape.every((size, i) => size + pads[i]! + pads[i + shape.length]! > 0));
        fc.pre(
          shape.every((size, i) => size + Math.min(pads[i]!, 0) + Math.min(pads[i + shape.length]!, 0) > 0),
        );
        return checkGradient({
          op: "Pad",
          inputs: [{ shape }, ints(...pads), { shape: [], values: [7], frozen: true }],
        });
      }),
      { numRuns: runs(12) },
    ));

  test("a value that is computed", () =>
    fc.assert(
      fc.asyncProperty(shapes, fc.infiniteStream(fc.integer({ min: 0, max: 2 })), (shape, edges) => {
        const pads = [...shape, ...shape].map(() => edges.next().value as number);
        return checkGradient({ op: "Pad", inputs: [{ shape }, ints(...pads), { shape: [] }] });
      }),
      { numRuns: runs(6) },
    ));

  for (const mode of ["reflect", "edge", "wrap"]) {
    test(mode, () =>
      fc.assert(
        fc.asyncProperty(shapes, fc.infiniteStream(fc.integer({ min: 0, max: 3 })), (shape, edges) => {
          // onnxruntime reflects and wraps once only.
          const most = (size: number) => ({ reflect: size - 1, edge: 3, wrap: size })[mode]!;
          const pads = [...shape, ...shape].map((size) => Math.min(edges.next().value as number, most(size)));
          const inputs = [{ shape }, ints(...pads)];
          return checkGradient({ op: "Pad", inputs, attributes: { mode }, opset: 19 });
        }),
        { numRuns: runs(10) },
      ),
    );
  }
});

test("DepthToSpace in both orders, SpaceToDepth", async () => {
  for (const mode of ["DCR", "CRD"]) {
    const attributes = { blocksize: 2, mode };
    await checkGradient({ op: "DepthToSpace", inputs: [{ shape: [2, 8, 1, 3] }], attributes });
  }
  await checkGradient({
    op: "SpaceToDepth",
    inputs: [{ shape: [2, 1, 4, 2] }],
    attributes: { blocksize: 2 },
  });
});
