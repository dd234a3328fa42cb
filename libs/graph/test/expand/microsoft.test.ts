import { describe, expect, test } from "vitest";
import { builderOn } from "../../src/builder.ts";
import { checkGradient, type Input } from "../gradient/check.ts";
import { run64 } from "../gradient/twin.ts";
import { agrees, BACKENDS, expectClose, f32, i32, onTfjs, reference } from "../tfjs/harness.ts";
import { drawn } from "./draw.ts";

const domain = "com.microsoft";
type Check = { attributes?: Record<string, number | string | readonly number[] | { float: number }> };

/** Forward against onnxruntime's own kernel, and the gradient at every input. */
async function check(op: string, shapes: readonly (readonly number[] | undefined)[], more: Check = {}) {
  const inputs = shapes.map((shape, i) => shape && drawn(shape, i + 1));
  await agrees({ op, domain, inputs, ...more });
  const varied: Input[] = shapes.map((shape) => shape && { shape });
  await checkGradient({ op: `${domain}::${op}`, inputs: varied, ...more });
}

describe("activations", () => {
  test("Gelu", () => check("Gelu", [[2, 5]]));
  test("BiasGelu", () => check("BiasGelu", [[2, 5], [5]]));
  test("FastGelu", () => check("FastGelu", [[2, 5]]));
  test("FastGelu with bias", () => check("FastGelu", [[2, 3, 5], [5]]));
  test("QuickGelu", () => check("QuickGelu", [[2, 5]], { attributes: { alpha: { float: 1.5 } } }));
});

/** Operators that onnxruntime has on graphics cards alone: values by hand. */
describe("of the diffusion models", () => {
  function run(op: string, inputs: readonly (readonly [readonly number[], readonly number[]])[]) {
    const build = builderOn();
    const names = inputs.map(([shape, values]) => build.constant(f32(shape, values)));
    build.output(build.emit(`${domain}::${op}`, names), "y");
    return Array.from(run64(build.finish(), new Map()).get("y")!.data as Float32Array);
  }

  test("BiasAdd", async () => {
    const x = [
      [1, 2, 2],
      [1, 2, 3, 4],
    ] as const;
    expect(run("BiasAdd", [x, [[2], [10, 20]], x])).toEqual([12, 24, 16, 28]);
    await checkGradient({
      op: `${domain}::BiasAdd`,
      inputs: [{ shape: [1, 2, 2] }, { shape: [2] }, { shape: [1, 2, 2] }],
    });
  });

  test("BiasSplitGelu", async () => {
    const got = run("BiasSplitGelu", [
      [
        [1, 1, 4],
        [1, 2, 0, 0],
      ],
      [[4], [1, 1, 0, 1]],
    ]);
    // Φ(1) = 0.8413447461.
    expect(got[0]).toBe(0);
    expect(got[1]).toBeCloseTo(3 * 0.8413447461, 5);
    await checkGradient({ op: `${domain}::BiasSplitGelu`, inputs: [{ shape: [2, 3, 4] }, { shape: [4] }] });
  });
});

describe("norms", () => {
  const epsilon = { epsilon: { float: 1e-4 } };
  const x = [2, 3, 4];

  test("SkipLayerNormalization", async () => {
    await check("SkipLayerNormalization", [x, x, [4]], { attributes: epsilon });
    await check("SkipLayerNormalization", [x, x, [4], [4], [4]], { attributes: epsilon });
    await check("SkipLayerNormalization", [x, [1, 3, 4], [4], [4]], { attributes: epsilon });
    await check("SkipLayerNormalization", [x, [3, 4], [4], undefined, [4]], {});
  });

  test("SkipSimplifiedLayerNormalization", async () => {
    await check("SkipSimplifiedLayerNormalization", [x, x, [4]], { attributes: epsilon });
    await check("SkipSimplifiedLayerNormalization", [x, x, [4], [4]], { attributes: epsilon });
  });

  test("statistics and the sum are outputs that may be read", async () => {
    for (const op of ["SkipLayerNormalization", "SkipSimplifiedLayerNormalization"]) {
      const inputs = [drawn(x), drawn(x, 2), drawn([4], 3)];
      const all = { op, domain, inputs, attributes: epsilon, outputs: 4 };
      const wanted = await reference(all);
      for (const backend of BACKENDS) {
        const got = await onTfjs(backend, all, wanted);
        // The root mean square has no mean: what onnxruntime's second output then holds is its own affair.
        const compared = op === "SkipLayerNormalization" ? ["y0", "y1", "y2", "y3"] : ["y0", "y2", "y3"];
        for (const name of compared) expectClose(got.get(name)!, wanted.get(name)!, `${op} ${name}`);
      }
      await checkGradient({
        ...{ op: `${domain}::${op}`, outputs: 4, attributes: epsilon },
        inputs: [{ shape: x }, { shape: x }, { shape: [4] }],
      });
    }
  });

  test("SimplifiedLayerNormalization", () =>
    checkGradient({ op: `${domain}::SimplifiedLayerNormalization`, inputs: [{ shape: x }, { shape: [4] }] }));
});

describe("EmbedLayerNormalization", () => {
  const ids = i32([2, 3], [0, 4, 2, 1, 1, 3]);
  const segments = i32([2, 3], [0, 0, 1, 0, 1, 1]);
  const mask = i32([2, 3], [1, 1, 0, 1, 1, 1]);
  const positions = i32([2, 3], [2, 1, 0, 0, 1, 3]);
  const tables = [drawn([5, 4], 1), drawn([4, 4], 2)];
  const [table, gamma, beta] = [drawn([2, 4], 3), drawn([4], 4), drawn([4], 5)];
  const all = { op: "EmbedLayerNormalization", domain };

  test("with segments, a mask and positions", async () => {
    const inputs = [ids, segments, ...tables, table, gamma, beta];
    await agrees({ ...all, inputs, outputs: 2 });
    await agrees({ ...all, inputs: [...inputs, mask], outputs: 2 });
    await agrees({ ...all, inputs: [...inputs, mask, positions], outputs: 3 });
    await agrees({ ...all, inputs: [ids, undefined, ...tables, undefined, gamma, beta], outputs: 2 });
  });

  test("gradient of the tables", async () => {
    const shapes: readonly number[][] = [[5, 4], [4, 4], [2, 4], [4], [4]];
    const inputs = [{ tensor: ids }, { tensor: segments }, ...shapes.map((shape) => ({ shape }))];
    await checkGradient({ op: `${domain}::EmbedLayerNormalization`, inputs });
  });
});

describe("products", () => {
  test("FusedMatMul, every way to turn its operands", async () => {
    for (const transA of [0, 1])
      for (const transB of [0, 1])
        for (const batches of [0, 1]) {
          const attributes = {
            ...{ transA, transB, transBatchA: batches, transBatchB: batches },
            alpha: { float: 0.5 },
          };
          const turned = (rows: number, columns: number, turn: number) => {
            const [m, n] = turn ? [columns, rows] : [rows, columns];
            return batches ? [m, 2, 3, n] : [2, 3, m, n];
          };
          await check("FusedMatMul", [turned(4, 2, transA), turned(2, 5, transB)], { attributes });
        }
    await check(
      "FusedMatMul",
      [
        [2, 3, 4],
        [5, 4],
      ],
      { attributes: { transB: 1 } },
    );
    await check(
      "TransposeMatMul",
      [
        [3, 4],
        [5, 4],
      ],
      { attributes: { transB: 1 } },
    );
  });

  // Beside a vector onnxruntime 1.30 reads the elements of a matrix to be transposed in the order they had.
  test.each(["FusedMatMul", "TransposeMatMul"])("%s of a transposed matrix and a vector", async (op) => {
    const times = (shape: readonly number[]) => ({
      ...{ op, domain, attributes: { transA: 1 } },
      inputs: [drawn([4, 3]), drawn(shape, 2)],
    });
    const column = (await reference(times([4, 1]))).get("y0")!;
    const wanted = { ...column, shape: [3] };
    for (const backend of BACKENDS) {
      const got = await onTfjs(backend, times([4]), new Map([["y0", wanted]]));
      expectClose(got.get("y0")!, wanted, backend);
    }
  });

  test("FusedGemm", async () => {
    for (const [activation, more] of [
      ["Relu", {}],
      ["Sigmoid", {}],
      ["Tanh", {}],
      ["LeakyRelu", { activation_alpha: { float: 0.1 } }],
      ["HardSigmoid", { activation_alpha: { float: 0.3 }, activation_beta: { float: 0.4 } }],
    ] as const)
      await check("FusedGemm", [[3, 4], [5, 4], [5]], {
        attributes: { activation, transB: 1, alpha: { float: 0.5 }, beta: { float: 2 }, ...more },
      });
  });

  test("FusedConv", async () => {
    const image = [1, 2, 5, 5];
    const all = { strides: [1, 2], pads: [1, 1, 1, 1] };
    await check("FusedConv", [image, [4, 2, 3, 3], [4]], { attributes: { ...all, activation: "Relu" } });
    await check("FusedConv", [image, [4, 1, 3, 3]], { attributes: { ...all, group: 2, activation: "Tanh" } });
    await check("FusedConv", [image, [4, 2, 3, 3], [4], [1, 4, 5, 3]], {
      attributes: { ...all, activation: "Sigmoid" },
    });
    for (const [activation, floats] of [
      ["LeakyRelu", [0.2]],
      ["HardSigmoid", [0.3, 0.4]],
      ["Clip", [-0.5, 1]],
    ] as const) {
      const attributes = { ...all, activation, activation_params: { floats } };
      await agrees({ op: "FusedConv", domain, inputs: [drawn(image), drawn([4, 2, 3, 3], 2)], attributes });
    }
  });
});
