import "@tensorflow/tfjs-backend-wasm";
import * as tf from "@tensorflow/tfjs-core";
import { describe, expect, test } from "vitest";
import { builderOn } from "../../src/builder.ts";
import { checkpointed } from "../../src/checkpoint.ts";
import { tfjsEngine } from "../../src/engines/tfjs/engine.ts";
import type { Tf } from "../../src/engines/tfjs/tfjs.ts";
import { sizeOf, type TracedGraph } from "../../src/ir.ts";
import { constantBytes, liveBytes, peakBytes } from "../../src/memory.ts";
import { cnnStep, decoderStep, mlpStep } from "./models.ts";

const STEPS = [
  ["a decoder", decoderStep({ layers: 2, batch: 3, length: 5 })],
  ["an MLP", mlpStep(3)],
  ["a CNN", cnnStep(2)],
] as const;

/** What must be held while node `at` runs, said plainly: whatever exists and somebody still reads. */
function twin(graph: TracedGraph, at: number): number {
  const fed = new Set(graph.inputs.map(({ name }) => name));
  const memory = new Map([...fed].map((name) => [name, name]));
  for (const { op, inputs, outputs } of graph.nodes.slice(0, at + 1)) {
    const same = ["Reshape", "Identity", "Flatten", "Squeeze", "Unsqueeze"].includes(op);
    for (const name of outputs) memory.set(name, (same ? memory.get(inputs[0]!) : undefined) ?? name);
  }
  const constant = (name: string) => !memory.has(name);
  const later = new Set(graph.outputs.map(({ name }) => name));
  const everRead = new Set(graph.nodes.flatMap(({ inputs }) => inputs));
  for (const { inputs, outputs } of graph.nodes.slice(at))
    for (const name of [...inputs, ...outputs]) later.add(name);
  const aliases = [...later].flatMap((name) => [name, ...sourcesOf(graph, name)]);
  const held = new Set(aliases.filter((name) => !constant(name)).map((name) => memory.get(name)!));
  for (const name of fed) if (!everRead.has(name)) held.add(name);
  return [...held].reduce((sum, name) => {
    const { dtype, shape } = graph.statics.get(name)!;
    return sum + sizeOf(shape) * (dtype === "int64" ? 8 : dtype === "bool" ? 1 : 4);
  }, 0);
}

/** Through reshapes, what a value that is made later is the memory of. */
function sourcesOf(graph: TracedGraph, name: string): string[] {
  const maker = graph.nodes.find(({ outputs }) => outputs.includes(name));
  if (!maker || !["Reshape", "Identity", "Flatten", "Squeeze", "Unsqueeze"].includes(maker.op)) return [];
  return [maker.inputs[0]!, ...sourcesOf(graph, maker.inputs[0]!)];
}

describe("peakBytes", () => {
  test.each(STEPS)("%s: as the plain sum of what is still read, at every node", (_, { graph }) => {
    expect(liveBytes(graph)).toEqual(graph.nodes.map((_, at) => twin(graph, at)));
    expect(peakBytes(graph)).toBe(Math.max(...liveBytes(graph)));
  });

  test("by hand: two of three are held at once, a reshape is free, constants are apart", () => {
    const build = builderOn();
    const x = build.input({ name: "x", dtype: "float32", shape: [10] });
    const a = build.emit("Exp", [x]);
    const b = build.emit("Neg", [build.emit("Reshape", [a, build.ints([2, 5])])]);
    const weight = build.constant({ dtype: "float32", shape: [5], data: new Float32Array(5) });
    build.output(build.emit("Mul", [b, weight]));
    const graph = build.finish();
    expect(liveBytes(graph)).toEqual([80, 40, 80, 80]);
    expect(constantBytes(graph)).toBe(20 + 16);
  });

  test.each(STEPS)("%s: tfjs holds no more than planned", async (_, { graph, feeds }) => {
    await tf.setBackend("wasm");
    const program = await tfjsEngine(watched(), "wasm").load(graph);
    const before = tf.memory().numBytes;
    most = 0;
    await program.step(feeds);
    expect(most - before).toBeGreaterThan(0.5 * peakBytes(graph));
    expect(most - before).toBeLessThanOrEqual(peakBytes(graph));
    await program.dispose();
  });
});

test("tfjs keeps to a budget by computing again", async () => {
  const { graph, feeds } = decoderStep({ layers: 6, batch: 6, length: 12 });
  const budgetBytes = Math.floor(0.6 * peakBytes(graph));
  const program = await tfjsEngine(watched(), "wasm").load(checkpointed(graph, { budgetBytes }));
  const before = tf.memory().numBytes;
  most = 0;
  await program.step(feeds);
  expect(most - before).toBeLessThanOrEqual(budgetBytes);
  await program.dispose();
});

let most = 0;

/** tfjs that notes how much it holds whenever a scope ends, which each node's kernel does in its own. */
function watched(): Tf {
  const tidy = ((scope: () => never) => {
    const result = tf.tidy(scope);
    most = Math.max(most, tf.memory().numBytes);
    return result;
  }) as unknown as Tf["tidy"];
  return { ...tf, tidy };
}
