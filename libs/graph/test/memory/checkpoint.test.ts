import "@tensorflow/tfjs-backend-cpu";
import * as tf from "@tensorflow/tfjs-core";
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { checkpointed } from "../../src/checkpoint.ts";
import { tfjsEngine } from "../../src/engines/tfjs/engine.ts";
import type { Tensors, TracedGraph } from "../../src/ir.ts";
import { peakBytes } from "../../src/memory.ts";
import { cnnStep, decoderStep, mlpStep, type Step } from "./models.ts";

const engine = tfjsEngine(tf, "cpu");

async function run(graph: TracedGraph, feeds: Tensors): Promise<Tensors> {
  const program = await engine.load(graph);
  const results = await program.step(feeds);
  await program.dispose();
  return results;
}

/** The least that `checkpointed` says it can reach. */
function leastOf(graph: TracedGraph): number {
  try {
    return peakBytes(checkpointed(graph, { budgetBytes: 1 }));
  } catch (error) {
    return Number(/at least (\d+) bytes/.exec(`${error}`)?.[1]);
  }
}

const anyStep: fc.Arbitrary<Step> = fc.oneof(
  fc.integer({ min: 2, max: 12 }).map(mlpStep),
  fc.integer({ min: 2, max: 5 }).map(cnnStep),
  fc
    .record({
      layers: fc.integer({ min: 1, max: 5 }),
      batch: fc.integer({ min: 1, max: 3 }),
      length: fc.integer({ min: 1, max: 9 }),
    })
    .map(decoderStep),
);

describe("checkpointed (Chen et al. 2016)", () => {
  test("any budget: the same numbers bit for bit, under the budget or a fault with the least", async () => {
    await fc.assert(
      fc.asyncProperty(anyStep, fc.double({ min: 0, max: 1, noNaN: true }), async (step, share) => {
        const [most, least] = [peakBytes(step.graph), leastOf(step.graph)];
        const budgetBytes = Math.floor(least + share * (most - least));
        const small = checkpointed(step.graph, { budgetBytes });
        expect(peakBytes(small)).toBeLessThanOrEqual(budgetBytes);
        expect(small.outputs).toEqual(step.graph.outputs);
        expect(await run(small, step.feeds)).toEqual(await run(step.graph, step.feeds));
        if (least < most)
          expect(() => checkpointed(step.graph, { budgetBytes: least - 1 })).toThrow(`${least}`);
      }),
      { numRuns: 15 },
    );
  });

  test("a deep model's activations shrink to a fraction", () => {
    const { graph } = decoderStep({ layers: 12, batch: 8, length: 16 });
    const [most, least] = [peakBytes(graph), leastOf(graph)];
    expect(least).toBeLessThan(0.45 * most);
  });

  test("a budget that is met changes nothing; a small cut computes less again than a deep one", () => {
    const { graph } = decoderStep({ layers: 6, batch: 4, length: 8 });
    const [most, least] = [peakBytes(graph), leastOf(graph)];
    expect(checkpointed(graph, { budgetBytes: most })).toBe(graph);
    const slight = checkpointed(graph, { budgetBytes: Math.floor(0.9 * most) });
    const deep = checkpointed(graph, { budgetBytes: least });
    expect(slight.nodes.length).toBeLessThan(deep.nodes.length);
    const forward = graph.nodes.length;
    expect(deep.nodes.length).toBeLessThan(1.5 * forward);
  });
});
