import "@tensorflow/tfjs-backend-wasm";
import * as tf from "@tensorflow/tfjs-core";
import { seededRandom } from "@tutti/foundation/random";
import { differentiate } from "@tutti/graph/differentiate";
import { onnxruntimeEngine } from "@tutti/graph/engines/onnxruntime/engine";
import { tfjsEngine } from "@tutti/graph/engines/tfjs/engine";
import type { Engine, Tensor, Tensors } from "@tutti/graph/ir";
import { type LossKind, withLoss } from "@tutti/graph/loss";
import { type MlpOptions, mlp } from "@tutti/graph/make/mlp";
import { promote } from "@tutti/graph/promote";
import { trace } from "@tutti/graph/trace";
import { flatten, layoutOf } from "@tutti/update/layout";
import * as ort from "onnxruntime-node";
import { beforeAll, describe, expect, test } from "vitest";
import { batches, type Examples } from "../src/batches.ts";
import { evaluate, fit } from "../src/fit.ts";
import { adamW, sgd } from "../src/optimiser.ts";

const ENGINES: readonly (() => Engine)[] = [() => onnxruntimeEngine(ort), () => tfjsEngine(tf, "wasm")];

beforeAll(async () => {
  await tf.setBackend("wasm");
});

/** Rows of x with labels, as a device would hold them. */
function examplesOf(x: readonly (readonly number[])[], labels: readonly number[]): Examples {
  const width = x[0]!.length;
  return {
    count: x.length,
    take: (rows) => {
      const data = Float32Array.from(rows.flatMap((row) => x[row]!));
      const label: Tensor = {
        dtype: "int64",
        shape: [rows.length],
        data: BigInt64Array.from(rows, (r) => BigInt(labels[r]!)),
      };
      return new Map<string, Tensor>([
        ["x", { dtype: "float32", shape: [rows.length, width], data }],
        ["label", label],
      ]);
    },
  };
}

async function prepare(
  engine: Engine,
  options: MlpOptions,
  { batch, kind }: { batch: number; kind: LossKind },
) {
  const graph = mlp(options);
  const names = [...graph.initializers.keys()].filter((name) => !name.startsWith("normalise"));
  const layout = layoutOf(names.map((name) => ({ name, shape: graph.initializers.get(name)!.shape })));
  const start = new Map(names.map((name) => [name, graph.initializers.get(name)!.data as Float32Array]));
  const traced = withLoss(trace(graph, { symbols: { batch } }), { kind });
  const program = await engine.load(differentiate(promote(traced, names), { loss: "loss", wrt: names }));
  return { program, layout, parameters: flatten(layout, start) };
}

const XOR = examplesOf(
  [
    [0, 0],
    [0, 1],
    [1, 0],
    [1, 1],
  ],
  [0, 1, 1, 0],
);

describe("training end to end", () => {
  test("XOR: from chance to certainty, the same on both engines", async () => {
    const runs: number[][] = [];
    for (const make of ENGINES) {
      const options = {
        inputs: 2,
        hidden: [8],
        outputs: 2,
        activation: "tanh",
        random: seededRandom("xor"),
      } as const;
      const batch = 4;
      const { program, layout, parameters } = await prepare(make(), options, {
        batch,
        kind: "softmax-cross-entropy",
      });
      const losses: number[] = [];
      const plan = { batchSize: batch, epochs: 200, random: seededRandom("order") };
      const fitted = await fit({
        program,
        layout,
        parameters,
        batches: batches(XOR, plan),
        optimiser: adamW({ learningRate: 0.05 }),
        onStep: (_, loss) => losses.push(loss),
      });
      const found = await evaluate({
        program,
        layout,
        parameters: fitted.parameters,
        examples: XOR,
        batchSize: batch,
      });
      await program.dispose();
      expect(losses[0]).toBeGreaterThan(0.5);
      expect(found.lossSum / found.count).toBeLessThan(0.02);
      expect(found).toMatchObject({ correct: 4, count: 4 });
      expect(fitted.steps).toBe(200);
      runs.push(losses);
    }
    for (const [step, loss] of runs[0]!.entries()) expect(runs[1]![step]).toBeCloseTo(loss, 4);
  });

  test("three blobs with a short last batch and normalisation", async () => {
    const random = seededRandom("blobs");
    const labels = Array.from({ length: 50 }, (_, row) => row % 3);
    const centres = [
      [100, 0],
      [120, 1],
      [110, 3],
    ];
    const rows = labels.map((label) =>
      centres[label]!.map((c, i) => c + random.normal() * (i === 0 ? 2 : 0.3)),
    );
    const examples = examplesOf(rows, labels);
    const runs: number[][] = [];
    for (const make of ENGINES) {
      const normalise = { mean: [110, 1.3], std: [8.4, 1.3] };
      const options = { inputs: 2, hidden: [16], outputs: 3, random: seededRandom("weights"), normalise };
      const batch = 16;
      const { program, layout, parameters } = await prepare(make(), options, {
        batch,
        kind: "softmax-cross-entropy",
      });
      const losses: number[] = [];
      const plan = { batchSize: batch, epochs: 30, random: seededRandom("order") };
      const optimiser = sgd({ learningRate: 0.3, momentum: 0.9 });
      const onStep = (_: number, loss: number) => losses.push(loss);
      const fitted = await fit({
        program,
        layout,
        parameters,
        batches: batches(examples, plan),
        optimiser,
        onStep,
      });
      const found = await evaluate({
        program,
        layout,
        parameters: fitted.parameters,
        examples,
        batchSize: batch,
      });
      await program.dispose();
      expect(fitted.steps).toBe(30 * 4);
      expect(found.count).toBe(50);
      expect(found.correct).toBeGreaterThanOrEqual(49);
      runs.push(losses);
    }
    for (const [step, loss] of runs[0]!.entries())
      expect(Math.abs(runs[1]![step]! - loss)).toBeLessThan(1e-4);
  });
});

describe("the other losses, on both engines", () => {
  const x = Array.from({ length: 24 }, (_, row) => [Math.sin(row), Math.cos(3 * row)]);
  const floats = (values: readonly number[]): Examples => {
    const hard = examplesOf(
      x,
      values.map(() => 0),
    );
    return {
      ...hard,
      take: async (rows) => {
        const data = Float32Array.from(rows, (row) => values[row]!);
        return new Map([
          ...(await hard.take(rows)),
          ["label", { dtype: "float32", shape: [rows.length, 1], data }],
        ]);
      },
    };
  };

  for (const [kind, label, bound] of [
    ["binary-cross-entropy", ([a, b]: number[]) => (a! + b! > 0 ? 1 : 0), 0.2],
    ["mean-squared-error", ([a, b]: number[]) => 2 * a! - b! + 0.5, 0.001],
  ] as const) {
    test(`${kind}: a linear model with one output`, async () => {
      const examples = floats(x.map((row) => Math.fround(label(row))));
      const runs: number[][] = [];
      for (const make of ENGINES) {
        const options = { inputs: 2, hidden: [], outputs: 1, random: seededRandom("one") };
        const setup = await prepare(make(), options, { batch: 8, kind });
        const losses: number[] = [];
        const plan = { batchSize: 8, epochs: 60, random: seededRandom("order") };
        const onStep = (_: number, loss: number) => losses.push(loss);
        const optimiser = sgd({ learningRate: 0.3, momentum: 0.9 });
        const { parameters } = await fit({ ...setup, batches: batches(examples, plan), optimiser, onStep });
        const found = await evaluate({ ...setup, parameters, examples, batchSize: 8 });
        await setup.program.dispose();
        expect(found.lossSum / found.count).toBeLessThan(bound);
        if (kind === "binary-cross-entropy") expect(found.correct).toBeGreaterThanOrEqual(23);
        runs.push(losses);
      }
      for (const [step, loss] of runs[0]!.entries())
        expect(Math.abs(runs[1]![step]! - loss)).toBeLessThan(1e-4);
    });
  }
});

describe("refusals", () => {
  test("a loss that overflows is named by its step", async () => {
    const options = { inputs: 2, hidden: [], outputs: 2, random: seededRandom(1) };
    const setup = await prepare(ENGINES[0]!(), options, { batch: 2, kind: "softmax-cross-entropy" });
    const bad = examplesOf(
      [
        [1, 1],
        [Number.POSITIVE_INFINITY, 1],
      ],
      [0, 1],
    );
    const plan = { batchSize: 2, epochs: 1, random: seededRandom(1) };
    const run = fit({ ...setup, batches: batches(bad, plan), optimiser: sgd({ learningRate: 0.1 }) });
    await expect(run).rejects.toThrow(/training step 0: expected a finite loss, got NaN/);
    await setup.program.dispose();
  });

  test("an abort stops between steps", async () => {
    const options = { inputs: 2, hidden: [], outputs: 2, random: seededRandom(1) };
    const setup = await prepare(ENGINES[0]!(), options, { batch: 2, kind: "softmax-cross-entropy" });
    const abort = new AbortController();
    const run = fit({
      ...setup,
      batches: batches(XOR, { batchSize: 2, steps: 100, random: seededRandom(1) }),
      optimiser: sgd({ learningRate: 0.1 }),
      signal: abort.signal,
      onStep: (step) => step === 2 && abort.abort(),
    });
    await expect(run).rejects.toMatchObject({ code: "cancelled", what: "training after 3 steps" });
    await setup.program.dispose();
  });
});

test("batches: every row once per epoch, the last batch filled with a real row at weight 0", async () => {
  const examples = examplesOf(
    Array.from({ length: 7 }, (_, row) => [row, row]),
    [0, 1, 2, 3, 4, 5, 6],
  );
  const seen: Tensors[] = [];
  for await (const batch of batches(examples, { batchSize: 3, epochs: 2, random: seededRandom(5) }))
    seen.push(batch);
  expect(seen).toHaveLength(6);
  const weights = (batch: Tensors) => [...(batch.get("row_weight")!.data as Float32Array)];
  const labels = (batch: Tensors) => [...(batch.get("label")!.data as BigInt64Array)].map(Number);
  for (const epoch of [seen.slice(0, 3), seen.slice(3)]) {
    expect(epoch.map(weights)).toEqual([
      [1, 1, 1],
      [1, 1, 1],
      [1, 0, 0],
    ]);
    const real = epoch.flatMap((batch) => labels(batch).filter((_, i) => weights(batch)[i] === 1));
    expect(real.toSorted()).toEqual([0, 1, 2, 3, 4, 5, 6]);
    expect(new Set(labels(epoch[2]!)).size).toBe(1);
  }
  expect(seen.slice(0, 3).flatMap(labels)).not.toEqual(seen.slice(3).flatMap(labels));
});
