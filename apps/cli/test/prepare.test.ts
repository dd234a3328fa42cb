import { readTensors } from "@tutti/adapter/formats/safetensors";
import { merge } from "@tutti/adapter/merge";
import { resolve } from "@tutti/adapter/resolve";
import { sha256Hex } from "@tutti/foundation/hash";
import { seededRandom } from "@tutti/foundation/random";
import type { Graph, Node } from "@tutti/graph/ir";
import { mlp } from "@tutti/graph/make/mlp";
import { read } from "@tutti/graph/read";
import { tensorOf } from "@tutti/graph/tensor";
import { write } from "@tutti/graph/write";
import { parseRunFile } from "@tutti/plan/plan";
import { expect, test } from "vitest";
import { resolveRun } from "../src/prepare.ts";

const runFile = (adapter: object) =>
  parseRunFile({
    base: "base.onnx",
    name: "try",
    adapter: { rank: 2, alpha: 4, targets: "all-linear", ...adapter },
    loss: "softmax-cross-entropy",
    train: { optimiser: { name: "sgd", learningRate: 0.1 }, steps: 1, batchSize: 2 },
    rounds: 1,
    cohort: { min: 3, max: 3 },
  });

const base = write(mlp({ inputs: 4, hidden: [5], outputs: 3, random: seededRandom(1) }));

test("ranks by pattern are in the plan's tensors", () => {
  const { plan } = resolveRun(runFile({ rankPattern: { "layers.1": 3 } }), base);
  const ranks = plan.tensors
    .filter(({ name }) => name.endsWith("lora_A.weight"))
    .map(({ shape }) => shape[0]);
  expect(ranks).toEqual([2, 3]);
});

test("docs/operating.md: a new run goes on from what a release merged, as a run of its own", () => {
  const first = resolveRun(runFile({}), base);
  const model = read(base);
  const adapter = resolve(model, first.plan.adapter);
  const chance = seededRandom(7);
  const learnt = new Map(
    [...readTensors(first.plan.tensors, first.initial)].map(([name, values]) => {
      return [name, values.map(() => chance.uniform())] as const;
    }),
  );
  const merged = merge(base, adapter, learnt);
  const next = resolveRun(runFile({}), merged, "results/merged.onnx");
  expect(next.plan.tensors).toEqual(first.plan.tensors);
  expect(next.plan.base.sha256).toBe(sha256Hex(merged));
  expect(next.plan.base.sha256).not.toBe(first.plan.base.sha256);
});

/** x times a weight held in 8 bits. */
function quantised(): Uint8Array {
  const node = (op: string, inputs: readonly string[], output: string): Node => ({
    op,
    domain: "",
    name: output,
    inputs,
    outputs: [output],
    attributes: new Map(),
    metadata: new Map(),
  });
  const graph: Graph = {
    name: "levels",
    opset: 17,
    inputs: [{ name: "x", dtype: "float32", shape: ["batch", 2] }],
    outputs: [{ name: "y", dtype: "float32", shape: ["batch", 3] }],
    initializers: new Map([
      ["fc.weight", tensorOf("int8", [2, 3], [1, 2, 3, 4, 5, 6])],
      ["scale", tensorOf("float32", [], [0.5])],
    ]),
    nodes: [node("DequantizeLinear", ["fc.weight", "scale"], "weight"), node("MatMul", ["x", "weight"], "y")],
  };
  return write(graph);
}

test("a base that devices could not merge into is refused before anybody trains", () => {
  expect(() => resolveRun(runFile({}), quantised(), "levels.onnx")).toThrow(
    /^base model levels\.onnx: expected a base that its devices can merge the adapter into, got merge: /,
  );
});

test("columns and classes other than the base model's are refused before anything is sent", () => {
  const names = (count: number) => Array.from({ length: count }, (_, at) => `n${at}`);
  const fileOf = (columns: number, classes: number) => {
    const data = { csv: "x.csv", columns: names(columns), label: "y", classes: names(classes) };
    return parseRunFile({ ...runFile({}), data });
  };
  expect(() => resolveRun(fileOf(3, 3), base)).toThrow(/data\.columns: expected 4, as .* has, got 3/);
  expect(() => resolveRun(fileOf(4, 2), base)).toThrow(/data\.classes: expected 3, as .* has, got 2/);
  expect(resolveRun(fileOf(4, 3), base).plan.data?.columns).toHaveLength(4);
});
