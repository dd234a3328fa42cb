import { seededRandom } from "@tutti/foundation/random";
import * as ort from "onnxruntime-node";
import { describe, expect, test } from "vitest";
import { onnxruntimeEngine } from "../../src/engines/onnxruntime/engine.ts";
import { float32 } from "../../src/ir.ts";
import { mlp } from "../../src/make/mlp.ts";
import { demote, promote } from "../../src/promote.ts";
import { read } from "../../src/read.ts";
import { trace } from "../../src/trace.ts";
import { write } from "../../src/write.ts";
import { run64 } from "../gradient/twin.ts";

const options = {
  inputs: 3,
  hidden: [4, 5],
  outputs: 2,
  activation: "tanh",
  random: seededRandom(1),
} as const;

describe("mlp", () => {
  test("layers, names and sizes", () => {
    const graph = mlp({ ...options, random: seededRandom(1) });
    expect(graph.nodes.map((node) => `${node.name} ${node.op}`)).toEqual([
      "/layers.0/Gemm Gemm",
      "/layers.0/activation Tanh",
      "/layers.1/Gemm Gemm",
      "/layers.1/activation Tanh",
      "/layers.2/Gemm Gemm",
    ]);
    expect([...graph.initializers].map(([name, { shape }]) => `${name} [${shape}]`)).toEqual([
      "layers.0.weight [4,3]",
      "layers.0.bias [4]",
      "layers.1.weight [5,4]",
      "layers.1.bias [5]",
      "layers.2.weight [2,5]",
      "layers.2.bias [2]",
    ]);
    expect(graph.inputs).toEqual([{ name: "x", dtype: "float32", shape: ["batch", 3] }]);
    expect(graph.outputs).toEqual([{ name: "logits", dtype: "float32", shape: ["batch", 2] }]);
  });

  test("one seed, one model; weights fill ±1/√fanIn", () => {
    const wide = () => mlp({ ...options, inputs: 100, random: seededRandom(9) });
    expect(wide()).toEqual(wide());
    const weight = wide().initializers.get("layers.0.weight")!.data as Float32Array;
    const largest = Math.max(...weight.map(Math.abs));
    expect(largest).toBeLessThanOrEqual(0.1);
    expect(largest).toBeGreaterThan(0.09);
  });

  test("computes what its formula says, written out and read back, on onnxruntime", async () => {
    const normalise = { mean: [1, 2, 3], std: [2, 4, 8] };
    for (const activation of ["relu", "tanh", "sigmoid", "gelu"] as const) {
      const graph = mlp({ ...options, activation, normalise, random: seededRandom(2) });
      const traced = trace(read(write(graph)).graph, { symbols: { batch: 2 } });
      const x = float32([2, 3], Float32Array.of(1, -2, 3, 0.5, 9, -4));
      const program = await onnxruntimeEngine(ort).load(traced);
      const got = (await program.step(new Map([["x", x]]))).get("logits")!;
      await program.dispose();
      expect(got.shape).toEqual([2, 2]);
      for (const row of [0, 1]) {
        const wanted = formula(graph, [...(x.data as Float32Array)].slice(3 * row, 3 * row + 3), {
          activation,
          normalise,
        });
        for (const [i, value] of wanted.entries())
          expect((got.data as Float32Array)[2 * row + i]).toBeCloseTo(value, 5);
      }
    }
  });

  test("refuses widths of 0 and a normalisation of another length", () => {
    expect(() => mlp({ ...options, hidden: [0] })).toThrow(/width of a layer/);
    const normalise = { mean: [1], std: [1] };
    expect(() => mlp({ ...options, normalise })).toThrow(/3 means/);
  });
});

type Formula = {
  activation: "relu" | "tanh" | "sigmoid" | "gelu";
  normalise: { mean: number[]; std: number[] };
};

function formula(graph: ReturnType<typeof mlp>, x: number[], { activation, normalise }: Formula): number[] {
  const bend = {
    relu: (v: number) => Math.max(v, 0),
    tanh: Math.tanh,
    sigmoid: (v: number) => 1 / (1 + Math.exp(-v)),
    gelu: (v: number) => (v / 2) * (1 + erf(v / Math.SQRT2)),
  }[activation];
  const of = (name: string) => graph.initializers.get(name)!.data as Float32Array;
  let values = x.map((v, i) => (v - normalise.mean[i]!) / normalise.std[i]!);
  for (const layer of [0, 1, 2]) {
    const [weight, bias] = [of(`layers.${layer}.weight`), of(`layers.${layer}.bias`)];
    const sums = [...bias].map((b, o) =>
      values.reduce((sum, v, i) => sum + v * weight[o * values.length + i]!, b),
    );
    values = layer < 2 ? sums.map(bend) : sums;
  }
  return values;
}

/** Σ (−1)ⁿ x^(2n+1) / (n!(2n+1)) · 2/√π. */
function erf(x: number): number {
  let [term, sum] = [x, x];
  for (let n = 1; n < 60; n++) {
    term *= -(x * x) / n;
    sum += term / (2 * n + 1);
  }
  return (2 / Math.sqrt(Math.PI)) * sum;
}

describe("promote and demote", () => {
  const traced = trace(mlp({ ...options, random: seededRandom(3) }), { symbols: { batch: 1 } });
  const names = ["layers.0.weight", "layers.2.bias"];

  test("there and back is the same graph", () => {
    const values = new Map(names.map((name) => [name, traced.initializers.get(name)!]));
    const back = demote(promote(traced, names), values);
    expect({ ...back, initializers: undefined }).toEqual({ ...traced, initializers: undefined });
    expect(new Map([...back.initializers].toSorted())).toEqual(new Map([...traced.initializers].toSorted()));
  });

  test("what is fed takes the initializer's place", () => {
    const x = float32([1, 3], Float32Array.of(1, 2, 3));
    const promoted = promote(traced, names);
    expect(promoted.inputs.map(({ name }) => name)).toEqual(["x", ...names]);
    const own = new Map(names.map((name) => [name, traced.initializers.get(name)!]));
    const same = run64(promoted, new Map([["x", x], ...own])).get("logits");
    expect(same).toEqual(run64(traced, new Map([["x", x]])).get("logits"));
    const other = float32([2], Float32Array.of(50, 60));
    const moved = run64(promoted, new Map([["x", x], ...own, ["layers.2.bias", other]])).get("logits");
    expect(moved).not.toEqual(same);
  });

  test("refuses what is no initializer, and values of another shape", () => {
    expect(() => promote(traced, ["logits"])).toThrow(/promote logits: expected an initializer/);
    const wrong = new Map([["layers.2.bias", float32([3], new Float32Array(3))]]);
    expect(() => demote(promote(traced, names), wrong)).toThrow(/float32 \[2\], got float32 \[3\]/);
  });
});
