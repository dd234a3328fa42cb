import "@tensorflow/tfjs-backend-wasm";
import { existsSync, readFileSync } from "node:fs";
import * as tf from "@tensorflow/tfjs-core";
import * as ort from "onnxruntime-node";
import { describe, expect, test } from "vitest";
import { builderOn } from "../../src/builder.ts";
import { differentiate } from "../../src/differentiate.ts";
import { onnxruntimeEngine } from "../../src/engines/onnxruntime/engine.ts";
import { tfjsEngine } from "../../src/engines/tfjs/engine.ts";
import type { Graph, Node, Tensor, TracedGraph } from "../../src/ir.ts";
import { promote } from "../../src/promote.ts";
import { read } from "../../src/read.ts";
import { trace } from "../../src/trace.ts";
import { close } from "./check.ts";

const FOLDER = new URL("../../../../../shared/conformance/peft/", import.meta.url);
const present = existsSync(FOLDER);
if (!present && process.env.CI === "true") throw new Error("conformance/peft is missing");
if (!present)
  console.log(
    "skipped: ../shared/conformance/peft is not here, so there is nothing of torch's to compare with",
  );

type Table = ReadonlyMap<string, Tensor>;

/** safetensors: u64 header length, JSON header, data (docs/onnx.md, Adapter files). */
function safetensors(url: URL): Table {
  const bytes = new Uint8Array(readFileSync(url));
  const length = Number(new DataView(bytes.buffer).getBigUint64(0, true));
  const header = JSON.parse(new TextDecoder().decode(bytes.subarray(8, 8 + length))) as Record<
    string,
    { dtype: string; shape: number[]; data_offsets: [number, number] }
  >;
  const { __metadata__: _, ...entries } = header;
  return new Map(
    Object.entries(entries).map(
      ([
        name,
        {
          dtype,
          shape,
          data_offsets: [from, to],
        },
      ]) => {
        const { buffer } = bytes.slice(8 + length + from, 8 + length + to);
        return [
          name,
          dtype === "I64"
            ? { dtype: "int64", shape, data: new BigInt64Array(buffer) }
            : { dtype: "float32", shape, data: new Float32Array(buffer) },
        ];
      },
    ),
  );
}

/** A [rows, columns] table of numbers. */
type Matrix = { rows: number; columns: number; at: (row: number, column: number) => number };

function matrix(tensor: Tensor): Matrix {
  const rows = tensor.shape[0]!;
  const columns = tensor.data.length / rows;
  return { rows, columns, at: (row, column) => Number(tensor.data[row * columns + column]) };
}
const flip = (m: Matrix): Matrix => ({
  rows: m.columns,
  columns: m.rows,
  at: (row, column) => m.at(column, row),
});
function times(a: Matrix, b: Matrix): number[] {
  return Array.from({ length: a.rows * b.columns }, (_, cell) => {
    const [row, column] = [Math.floor(cell / b.columns), cell % b.columns];
    return Array.from({ length: a.columns }, (_, k) => a.at(row, k) * b.at(k, column)).reduce(
      (x, y) => x + y,
      0,
    );
  });
}

/** Where a module's weight lies in the graph and whether it is stored [in, out]. */
function weightOf(graph: Graph, module: string): { name: string; turned: boolean; node: Node } {
  const node = graph.nodes.find(
    ({ op, name }) =>
      ["Gemm", "MatMul", "Conv"].includes(op) && name.replaceAll("/", ".").includes(`.${module}.`),
  );
  if (!node) throw new Error(`no node of module ${module}`);
  const name = node.inputs.find((input) => graph.initializers.has(input))!;
  return {
    name,
    turned: node.op === "MatMul" || (node.op === "Gemm" && !node.attributes.get("transB")?.value),
    node,
  };
}

type Placed = {
  module: string;
  name: string;
  turned: boolean;
  a: Matrix;
  b: Matrix;
  rowScale: (row: number) => number;
};

/**
 * The adapter's gradients by way of the merged weight: with W' = W + s·B·A, dB = s·dW'·Aᵀ and dA = s·Bᵀ·dW'.
 * It needs no injection, so it holds this room's gradients alone against torch's.
 */
function merge(graph: Graph, adapter: Table, { scale, golden }: { scale: number; golden: Table }) {
  const initializers = new Map(graph.initializers);
  const placed: Placed[] = [];
  const saved: { key: string; name: string }[] = [];
  for (const [key, tensor] of adapter) {
    const module = key
      .replace(/^base_model\.model\./, "")
      .replace(/\.(lora_[AB]|modules_to_save)?\.?(weight|bias)$/, "");
    if (key.includes("lora_B")) continue;
    const { name, turned, node } = weightOf(graph, module);
    if (!key.includes("lora_A")) {
      const target = key.endsWith("bias") ? node.inputs[2]! : name;
      initializers.set(target, tensor);
      saved.push({ key, name: target });
      continue;
    }
    const [a, b] = [matrix(tensor), matrix(adapter.get(key.replace("lora_A", "lora_B"))!)];
    // A folded batch norm scales the rows of the adapter's update too (docs/onnx.md, Fields and names).
    const norm = golden.get(`bn_scale.${module}`);
    const rowScale = (row: number) => scale * Number(norm?.data[row] ?? 1);
    const delta = times(b, a);
    const weight = graph.initializers.get(name)!;
    const data = (weight.data as Float32Array).slice();
    for (const [cell, value] of delta.entries()) {
      const [row, column] = [Math.floor(cell / a.columns), cell % a.columns];
      data[turned ? column * b.rows + row : cell]! += rowScale(row) * value;
    }
    initializers.set(name, { ...weight, data });
    placed.push({ module, name, turned, a, b, rowScale });
  }
  return { graph: { ...graph, initializers }, placed, saved };
}

/** loss = mean(output²), as the golden file has it. */
function meanSquare(graph: TracedGraph): TracedGraph {
  const b = builderOn(graph);
  const y = graph.outputs[0]!.name;
  const axes = b.shape(y).map((_, axis) => axis);
  b.output(b.emit("ReduceMean", [b.emit("Mul", [y, y])], { axes, keepdims: 0 }), "loss");
  return b.finish();
}

describe.skipIf(!present)(
  "torch's own gradients of a PEFT adapter, at relative 1e-4 of each tensor's largest",
  () => {
    for (const model of ["mlp", "bert", "cnn"]) {
      test(model, async () => {
        const folder = new URL(`${model}/`, FOLDER);
        const golden = safetensors(new URL("golden.safetensors", folder));
        const config = JSON.parse(readFileSync(new URL("adapter_config.json", folder), "utf8"));
        const scale = config.lora_alpha / config.r;
        const { graph } = read(new Uint8Array(readFileSync(new URL("base.legacy.onnx", folder))));
        const merged = merge(graph, safetensors(new URL("adapter_model.safetensors", folder)), {
          scale,
          golden,
        });
        const inputs = graph.inputs.map(({ name }) => [name, golden.get(`input.${name}`)!] as const);
        const shapes = Object.fromEntries(inputs.map(([name, tensor]) => [name, tensor.shape]));
        const traced = meanSquare(trace(merged.graph, { shapes }));
        const wrt = [...merged.placed, ...merged.saved].map(({ name }) => name);
        const derived = differentiate(promote(traced, wrt), { loss: "loss", wrt });
        const feeds = new Map([
          ...inputs,
          ...wrt.map((name) => [name, traced.initializers.get(name)!] as const),
        ]);
        await tf.setBackend("wasm");
        for (const engine of [onnxruntimeEngine(ort), tfjsEngine(tf, "wasm")]) {
          const program = await engine.load(derived);
          const results = await program.step(feeds);
          await program.dispose();
          const wanted = (key: string) => [...(golden.get(`grad.${key}`)!.data as Float32Array)];
          const agree = (key: string, got: readonly number[]) => {
            const largest = Math.max(...wanted(key).map(Math.abs));
            expect(largest, key).toBeGreaterThan(0);
            const unit = (values: readonly number[]) => values.map((v) => v / largest);
            const tensor: Tensor = {
              dtype: "float64",
              shape: [got.length],
              data: Float64Array.from(unit(got)),
            };
            close(tensor, unit(wanted(key)), { tolerance: 1e-4, what: `${engine.name} ${key}` });
          };
          for (const { module, name, turned, a, b, rowScale } of merged.placed) {
            const stored = matrix(results.get(`grad.${name}`)!);
            const own = turned ? flip(stored) : stored;
            const dW = { ...own, at: (row: number, column: number) => rowScale(row) * own.at(row, column) };
            agree(`base_model.model.${module}.lora_A.weight`, times(flip(b), dW));
            agree(`base_model.model.${module}.lora_B.weight`, times(dW, flip(a)));
          }
          for (const { key, name } of merged.saved) {
            const found = [...golden.keys()].find((k) => k.includes("modules_to_save") && sameEnd(k, key))!;
            agree(found.replace("grad.", ""), [...(results.get(`grad.${name}`)!.data as Float32Array)]);
          }
        }
      });
    }
  },
);

/** `…4.modules_to_save.bias` and `…4.bias` name the same tensor. */
function sameEnd(goldenKey: string, key: string): boolean {
  return (
    goldenKey.replace("grad.", "").replace(".modules_to_save", "") === key.replace(".modules_to_save", "")
  );
}
