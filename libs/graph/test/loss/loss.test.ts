import "@tensorflow/tfjs-backend-wasm";
import * as tf from "@tensorflow/tfjs-core";
import { seededRandom } from "@tutti/foundation/random";
import fc from "fast-check";
import * as ort from "onnxruntime-node";
import { describe, expect, test } from "vitest";
import { builderOn } from "../../src/builder.ts";
import { differentiate } from "../../src/differentiate.ts";
import { onnxruntimeEngine } from "../../src/engines/onnxruntime/engine.ts";
import { tfjsEngine } from "../../src/engines/tfjs/engine.ts";
import { float32, type Tensor, type Tensors, type TracedGraph } from "../../src/ir.ts";
import { type LossKind, withLoss } from "../../src/loss.ts";
import { int64 } from "../../src/tensor.ts";
import { run64 } from "../gradient/twin.ts";

/** x [batch, …] straight to the output, so that the loss is all there is. */
function identity(shape: readonly number[], opset = 17): TracedGraph {
  const b = builderOn(undefined, opset);
  const x = b.input({ name: "x", dtype: "float32", shape });
  b.output(b.emit("Identity", [x]), "logits");
  return b.finish();
}

const scalar = (results: Tensors, name: string) => (results.get(name)!.data as Float32Array)[0]!;
const vector = (values: readonly number[]): Tensor => float32([values.length], Float32Array.from(values));

type Twin = { rows: number[]; right: number[] };

/** Losses whose rows stand alone. */
type RowKind = Exclude<LossKind, "next-token" | "contrastive-pair">;

/** The textbook formulas in float64, row by row. */
const TWINS: Record<RowKind, (x: number[][], y: number[][]) => Twin> = {
  "softmax-cross-entropy": (x, y) => ({
    rows: x.map((row, i) => {
      const top = Math.max(...row);
      return top + Math.log(row.reduce((sum, v) => sum + Math.exp(v - top), 0)) - row[y[i]![0]!]!;
    }),
    right: x.map((row, i) => (row.indexOf(Math.max(...row)) === y[i]![0] ? 1 : 0)),
  }),
  "binary-cross-entropy": (x, y) => ({
    rows: x.map((row, i) =>
      average(
        row.map((v, j) => {
          const log = (z: number) => (z > 0 ? -Math.log1p(Math.exp(-z)) : z - Math.log1p(Math.exp(z)));
          return -(y[i]![j]! * log(v) + (1 - y[i]![j]!) * log(-v));
        }),
      ),
    ),
    right: x.map((row, i) => average(row.map((v, j) => (v > 0 === y[i]![j]! > 0.5 ? 1 : 0)))),
  }),
  "mean-squared-error": (x, y) => ({
    rows: x.map((row, i) => average(row.map((v, j) => (v - y[i]![j]!) ** 2))),
    right: x.map(() => 0),
  }),
  huber: (x, y) => ({
    rows: x.map((row, i) =>
      average(
        row.map((v, j) => {
          const off = Math.abs(v - y[i]![j]!);
          return off <= 1 ? 0.5 * off * off : off - 0.5;
        }),
      ),
    ),
    right: x.map(() => 0),
  }),
};
const average = (values: readonly number[]) => values.reduce((a, b) => a + b, 0) / values.length;

function draw(
  kind: RowKind,
  { batch, width, seed, spread }: { batch: number; width: number; seed: number; spread: number },
) {
  const random = seededRandom(seed);
  const table = (value: () => number) =>
    Array.from({ length: batch }, () => Array.from({ length: width }, value));
  const x = table(() => Math.fround(spread * random.normal()));
  const classes = kind === "softmax-cross-entropy";
  const y = classes
    ? Array.from({ length: batch }, () => [random.below(width)])
    : table(() => (kind === "binary-cross-entropy" ? random.below(2) : Math.fround(random.normal())));
  const weight = Array.from({ length: batch }, () => [0, 1, 0.5][random.below(3)]!);
  const label = classes ? int64(y.flat(), [batch]) : float32([batch, width], Float32Array.from(y.flat()));
  const feeds = new Map([
    ["x", float32([batch, width], Float32Array.from(x.flat()))],
    ["label", label],
    ["row_weight", vector(weight)],
  ]);
  return { x, y, weight, feeds };
}

describe("each loss against its formula, weighted by row", () => {
  for (const kind of Object.keys(TWINS) as RowKind[]) {
    // A spread of 200 overflows e^x in float32: what is stable stays finite.
    test(kind, () =>
      fc.assert(
        fc.property(
          fc.integer({ min: 1, max: 4 }),
          fc.integer({ min: 1, max: 4 }),
          fc.nat(10_000),
          fc.constantFrom(1, 200),
          (batch, width, seed, spread) => {
            const { x, y, weight, feeds } = draw(kind, { batch, width, seed, spread });
            const graph = withLoss(identity([batch, width]), { kind });
            const results = run64(graph, feeds);
            const twin = TWINS[kind](x, y);
            const dot = (values: readonly number[]) => values.reduce((sum, v, i) => sum + v * weight[i]!, 0);
            const total = weight.reduce((a, b) => a + b, 0);
            const close = (name: string, wanted: number) =>
              expect(Math.abs(scalar(results, name) - wanted), name).toBeLessThanOrEqual(
                1e-5 * Math.max(1, wanted),
              );
            close("loss_sum", dot(twin.rows));
            close("weight_sum", total);
            close("correct", dot(twin.right));
            close("loss", total === 0 ? 0 : dot(twin.rows) / total);
            expect([...(results.get("logits")!.data as Float32Array)]).toEqual(x.flat());
          },
        ),
      ),
    );
  }
});

describe("gradients of the losses, on onnxruntime", () => {
  const batch = 3;
  async function gradient(kind: RowKind, feeds: Tensors, width: number): Promise<number[]> {
    const graph = withLoss(identity([batch, width]), { kind });
    const program = await onnxruntimeEngine(ort).load(differentiate(graph, { loss: "loss", wrt: ["x"] }));
    const results = await program.step(feeds);
    await program.dispose();
    return [...(results.get("grad.x")!.data as Float32Array)];
  }

  test("softmax cross-entropy: (softmax − one-hot)·weight / Σ weight", async () => {
    const { x, y, weight, feeds } = draw("softmax-cross-entropy", { batch, width: 4, seed: 3, spread: 2 });
    const total = weight.reduce((a, b) => a + b, 0);
    const wanted = x.flatMap((row, i) => {
      const sum = row.reduce((s, v) => s + Math.exp(v), 0);
      return row.map((v, j) => ((Math.exp(v) / sum - (j === y[i]![0] ? 1 : 0)) * weight[i]!) / total);
    });
    const got = await gradient("softmax-cross-entropy", feeds, 4);
    for (const [i, value] of wanted.entries()) expect(got[i]).toBeCloseTo(value, 5);
  });

  test("binary cross-entropy: (σ(x) − y)·weight / (width·Σ weight), at x = 0 too", async () => {
    const feeds = new Map([
      ["x", float32([3, 1], Float32Array.of(0, 0, 100))],
      ["label", float32([3, 1], Float32Array.of(0, 1, 1))],
      ["row_weight", vector([1, 1, 2])],
    ]);
    const got = await gradient("binary-cross-entropy", feeds, 1);
    for (const [i, value] of [0.125, -0.125, 0].entries()) expect(got[i]).toBeCloseTo(value, 6);
  });

  test("a class masked to −inf and a batch of padding alone give no NaN", async () => {
    const label = int64([0, 1, 0], [3]);
    const x = float32([3, 3], Float32Array.of(1, 2, -Infinity, 1, 2, -Infinity, 1, 2, -Infinity));
    const masked = new Map([
      ["x", x],
      ["label", label],
      ["row_weight", vector([1, 1, 1])],
    ]);
    expect((await gradient("softmax-cross-entropy", masked, 3)).every(Number.isFinite)).toBe(true);
    const forward = run64(withLoss(identity([batch, 3]), { kind: "softmax-cross-entropy" }), masked);
    expect(Number.isFinite(scalar(forward, "loss"))).toBe(true);
    const padding = new Map([...masked, ["row_weight", vector([0, 0, 0])]]);
    expect((await gradient("softmax-cross-entropy", padding, 3)).every((v) => v === 0)).toBe(true);
  });
});

describe("a label that is no class, beside a class masked to −inf, has loss 0 and gradient 0", () => {
  const feeds = new Map([
    ["x", float32([4, 3], Float32Array.of(-Infinity, 1, 2, -Infinity, 1, 2, 1, 2, -Infinity, 1, 2, 3))],
    ["label", int64([-1, -100, 3, 1], [4])],
    ["row_weight", vector([1, 1, 1, 1])],
  ]);
  const engines = { "tfjs/wasm": tfjsEngine(tf, "wasm"), onnxruntime: onnxruntimeEngine(ort) };
  const cases = Object.keys(engines).flatMap((name) => [7, 13, 17, 21].map((opset) => ({ name, opset })));
  test.each(cases)("$name, operator set $opset", async ({ name, opset }) => {
    const graph = withLoss(identity([4, 3], opset), { kind: "softmax-cross-entropy" });
    const program = await engines[name as keyof typeof engines].load(
      differentiate(graph, { loss: "loss", wrt: ["x"] }),
    );
    const results = await program.step(feeds);
    await program.dispose();
    const [a, b, c] = [1, 2, 3].map((value) => Math.exp(value - 2) / (Math.exp(-1) + 1 + Math.E));
    expect(scalar(results, "loss_sum")).toBeCloseTo(-Math.log(b!), 5);
    const wanted = [...new Array<number>(9).fill(0), a! / 4, (b! - 1) / 4, c! / 4];
    const got = [...(results.get("grad.x")!.data as Float32Array)];
    for (const [i, value] of wanted.entries()) expect(got[i]).toBeCloseTo(value, 5);
  });
});

describe("refusals", () => {
  test("a missing output, a taken name, logits of another rank", () => {
    const kind = "softmax-cross-entropy";
    expect(() => withLoss(identity([2, 3]), { kind, output: "scores" })).toThrow(/loss output scores/);
    const twice = withLoss(identity([2, 3]), { kind, output: "logits" });
    expect(() => withLoss(twice, { kind, output: "logits" })).toThrow(/already has a value called label/);
    expect(() => withLoss(identity([2]), { kind })).toThrow(
      /expected logits \[batch, classes\] or \[batch, …, classes\], got shape \[2\]/,
    );
  });
});
