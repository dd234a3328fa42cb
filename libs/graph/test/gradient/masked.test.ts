import "@tensorflow/tfjs-backend-wasm";
import * as tf from "@tensorflow/tfjs-core";
import * as ort from "onnxruntime-node";
import { describe, expect, test } from "vitest";
import { type Builder, builderOn } from "../../src/builder.ts";
import { differentiate } from "../../src/differentiate.ts";
import { onnxruntimeEngine } from "../../src/engines/onnxruntime/engine.ts";
import { tfjsEngine } from "../../src/engines/tfjs/engine.ts";
import { float32, type Tensor } from "../../src/ir.ts";
import { tensorOf } from "../../src/tensor.ts";
import { run64 } from "./twin.ts";

type Step = (b: Builder, x: string) => string;

// Row 0 sees keys 0 and 2, row 1 sees nothing.
const SEEN = tensorOf("bool", [2, 3], [1, 0, 1, 0, 0, 0]);
const ONES = float32([2, 3], Float32Array.from(SEEN.data as Uint8Array));
const LOWEST = -3.4028234663852886e38;

const additive = (low: number) =>
  float32(
    [2, 3],
    Float32Array.from(SEEN.data as Uint8Array, (seen) => (seen ? 0 : low)),
  );
const fed = (b: Builder) => b.input({ name: "mask", dtype: "bool", shape: [2, 3] });
const adding = (low: number): Step => {
  return (b, x) => b.emit("Add", [x, b.constant(additive(low))]);
};
const choosing = (low: number): Step => {
  return (b, x) => b.emit("Where", [b.constant(SEEN), x, b.scalar(low)]);
};

/** Ways of exporters to mask scores; with a finite low value a row of nothing sees all keys alike. */
const MASKS: Record<string, { readonly mask: Step; readonly finite?: boolean }> = {
  "Add −∞": { mask: adding(Number.NEGATIVE_INFINITY) },
  "Where −∞": { mask: choosing(Number.NEGATIVE_INFINITY) },
  "Where −∞ by a mask that is fed": {
    mask: (b, x) => b.emit("Where", [fed(b), x, b.scalar(Number.NEGATIVE_INFINITY)]),
  },
  "Add of a Where over a mask that is fed": {
    mask: (b, x) => {
      const bias = b.emit("Where", [fed(b), b.scalar(0), b.scalar(Number.NEGATIVE_INFINITY)]);
      return b.emit("Add", [x, bias]);
    },
  },
  "Add the lowest float twice": {
    mask: (b, x) => adding(LOWEST)(b, adding(LOWEST)(b, x)),
  },
  "Add the lowest float": { mask: adding(LOWEST), finite: true },
  "Where the lowest float": { mask: choosing(LOWEST), finite: true },
  "Add −10⁴": { mask: adding(-1e4), finite: true },
  "x·m − 10⁹·(1 − m)": {
    mask: (b, x) => {
      const gone = b.emit("Mul", [b.emit("Sub", [b.scalar(1), b.constant(ONES)]), b.scalar(1e9)]);
      return b.emit("Sub", [b.emit("Mul", [x, b.constant(ONES)]), gone]);
    },
    finite: true,
  },
};

const zeroNaN: Step = (b, p) => b.emit("Where", [b.emit("IsNaN", [p]), b.scalar(0), p]);

/** What then stands between a row of NaN and the values. */
const HIDINGS: Record<string, Step> = {
  "IsNaN and Where": zeroNaN,
  "Where by the mask": (b, p) => b.emit("Where", [b.constant(SEEN), p, b.scalar(0)]),
  "after Identity and Cast": (b, p) => zeroNaN(b, b.emit("Cast", [b.emit("Identity", [p])], { to: 1 })),
  "after Reshape and Transpose": (b, p) => {
    const turned = b.emit("Transpose", [b.emit("Reshape", [p, b.ints([2, 3, 1])])], { perm: [2, 0, 1] });
    return b.emit("Reshape", [zeroNaN(b, turned), b.ints([2, 3])]);
  },
};

/** Gradient of Σ weights·hide(softmax(mask(x))) at x, in float64-like evaluation and on both engines. */
async function gradients(mask: Step, hide: Step, op: string): Promise<number[][]> {
  const b = builderOn();
  const x = b.input({ name: "x", dtype: "float32", shape: [2, 3] });
  const p = hide(b, b.emit(op, [mask(b, x)], { axis: -1 }));
  const weighted = b.emit("Mul", [p, b.constant(float32([3], Float32Array.of(1, 2, 3)))]);
  b.output(b.emit("ReduceSum", [weighted], { axes: [0, 1], keepdims: 0 }), "loss");
  const graph = differentiate(b.finish(), { loss: "loss", wrt: ["x"] });
  const all = new Map<string, Tensor>([
    ["x", float32([2, 3], Float32Array.of(0, 5, 0, 1, 2, 3))],
    ["mask", SEEN],
  ]);
  const feeds = new Map([...all].filter(([name]) => graph.inputs.some((input) => input.name === name)));
  await tf.setBackend("wasm");
  const results = [run64(graph, feeds)];
  for (const engine of [onnxruntimeEngine(ort), tfjsEngine(tf, "wasm")]) {
    const program = await engine.load(graph);
    results.push(await program.step(feeds));
    await program.dispose();
  }
  return results.map((result) => Array.from(result.get("grad.x")!.data as Float32Array));
}

describe("masked softmax: what is not seen has gradient 0, and nothing is NaN", () => {
  for (const [how, { mask, finite }] of Object.entries(MASKS)) {
    for (const [hidden, hide] of Object.entries(HIDINGS)) {
      test(`${how}; ${hidden}`, async () => {
        for (const got of await gradients(mask, hide, "Softmax")) {
          // Row 0 is a softmax over two: p = ½ each, weights 1 and 3, so dp = (−½, ½).
          for (const [at, wanted] of [-0.5, 0, 0.5].entries()) expect(got[at]).toBeCloseTo(wanted, 6);
          // A row of equal low values is a plain softmax where its scores still reach it; else it is 0.
          for (const value of got.slice(3)) expect(Number.isFinite(value)).toBe(true);
          if (!finite) expect(got.slice(3).map(Math.abs)).toEqual([0, 0, 0]);
        }
      });
    }
  }
});

test("masked LogSoftmax, what is not seen left out of the sum", async () => {
  const keep: Step = (b, y) => b.emit("Where", [b.constant(SEEN), y, b.scalar(0)]);
  for (const how of ["Add −∞", "Where −∞"]) {
    for (const got of await gradients(MASKS[how]!.mask, keep, "LogSoftmax")) {
      // d Σ w·log p = w − p·Σw, of weights 1 and 3: (−1, 1).
      for (const [at, wanted] of [-1, 0, 1, 0, 0, 0].entries()) expect(got[at]).toBeCloseTo(wanted, 6);
    }
  }
});

test("a softmax written out, with −∞ in some places", async () => {
  const b = builderOn();
  const x = b.input({ name: "x", dtype: "float32", shape: [1, 3] });
  const row = float32([1, 3], Float32Array.of(0, Number.NEGATIVE_INFINITY, 0));
  const scores = b.emit("Add", [x, b.constant(row)]);
  const shifted = b.emit("Sub", [scores, b.emit("ReduceMax", [scores], { axes: [1], keepdims: 1 })]);
  const e = b.emit("Exp", [shifted]);
  const p = b.emit("Div", [e, b.emit("ReduceSum", [e], { axes: [1], keepdims: 1 })]);
  const weighted = b.emit("Mul", [p, b.constant(float32([3], Float32Array.of(1, 2, 3)))]);
  b.output(b.emit("ReduceSum", [weighted], { axes: [0, 1], keepdims: 0 }), "loss");
  const graph = differentiate(b.finish(), { loss: "loss", wrt: ["x"] });
  const feeds = new Map([["x", float32([1, 3], Float32Array.of(0, 5, 0))]]);
  const got = run64(graph, feeds).get("grad.x")!.data as Float32Array;
  for (const [at, wanted] of [-0.5, 0, 0.5].entries()) expect(got[at]).toBeCloseTo(wanted, 6);
});
