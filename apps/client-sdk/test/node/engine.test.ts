import { seededRandom } from "@tutti/foundation/random";
import type { Choice } from "@tutti/graph/engines/auto";
import { float32 } from "@tutti/graph/ir";
import { mlp } from "@tutti/graph/make/mlp";
import { trace } from "@tutti/graph/trace";
import { expect, test } from "vitest";
import { nodeEngine } from "../../src/node/engine.ts";

test("auto measures both engines, keeps one of them and says which", async () => {
  const graph = trace(mlp({ inputs: 4, hidden: [8], outputs: 2, random: seededRandom(1) }), {
    symbols: { batch: 3 },
  });
  const feeds = new Map([[graph.inputs[0]!.name, float32([3, 4], new Float32Array(12).fill(0.5))]]);
  const choices: Choice[] = [];
  const auto = await nodeEngine("auto", { onChosen: (choice) => choices.push(choice) });
  const program = await auto.load(graph);
  const first = await program.step(feeds);
  expect(Object.keys(choices[0]!.stepMs)).toHaveLength(2);
  expect(choices[0]!.refused).toEqual([]);
  expect(Object.keys(choices[0]!.stepMs)).toContain(choices[0]!.engine);
  expect(auto.name).toBe(choices[0]!.engine);
  // Whichever it was, the next step is its own.
  expect(await program.step(feeds)).toEqual(first);
  await program.dispose();
});

test("another name is refused with those there are", async () => {
  await expect(nodeEngine("torch" as "tfjs")).rejects.toThrow(/tfjs or onnxruntime or auto/);
});
