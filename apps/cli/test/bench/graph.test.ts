import { seededRandom } from "@tutti/foundation/random";
import { onnxruntimeEngine } from "@tutti/graph/engines/onnxruntime/engine";
import { transformer } from "@tutti/graph/make/transformer";
import { read } from "@tutti/graph/read";
import { write } from "@tutti/graph/write";
import * as ort from "onnxruntime-node";
import { describe, expect, test } from "vitest";
import { contender, graphBench, quartilesOf, race, ratioOf } from "../../src/bench/graph.ts";

/** A clock on which only what a contender takes passes. */
function fakeClock() {
  let now = 0;
  const pass = (ms: number) => {
    now += ms;
  };
  return { nowMs: () => now, pass };
}

describe("race", () => {
  test("contenders take turns; warm-ups are run and not counted", async () => {
    const clock = fakeClock();
    const order: string[] = [];
    const taking = (name: string, ms: number) => ({
      run: async () => {
        order.push(name);
        clock.pass(ms);
      },
      dispose: async () => {},
    });
    const times = await race({ a: taking("a", 3), b: taking("b", 5) }, { rounds: 2, warmUps: 1, clock });
    expect(order.join("")).toBe("ababab");
    expect(times).toEqual({ a: [3, 3], b: [5, 5] });
  });

  test("a ratio is taken turn by turn, so what slows both down does not show", () => {
    expect(ratioOf([20, 200, 20, 20], [10, 100, 10, 10])).toEqual({ median: 2, low: 2, high: 2 });
    expect(quartilesOf([5, 1, 4, 2, 3])).toEqual({ median: 3, low: 2, high: 4 });
    expect(quartilesOf([]).median).toBeNaN();
  });
});

describe("graphBench", () => {
  test("the base's forward pass and a step of its adapter run on what it feeds", async () => {
    const model = transformer({
      kind: "encoder",
      layers: 1,
      width: 8,
      heads: 2,
      vocabulary: 5,
      length: 4,
      head: { classes: 2 },
      random: seededRandom(1),
    });
    const clock = fakeClock();
    const bench = graphBench(read(write(model)), {
      adapter: { rank: 2, alpha: 4, targets: ["attention.query"], save: ["classifier"] },
      bind: { symbols: { batch: 2, length: 3 } },
      loss: { kind: "softmax-cross-entropy" },
      random: seededRandom(2),
      clock,
    });
    const engine = onnxruntimeEngine(ort, { session: { intraOpNumThreads: 1 } });
    for (const graph of [bench.traced, bench.step]) {
      const program = await engine.load(graph);
      const results = await program.step(bench.feeds);
      expect([...results.keys()]).toEqual(graph.outputs.map(({ name }) => name));
      for (const { data } of results.values())
        for (const value of data as Float32Array) expect(Number.isFinite(value)).toBe(true);
      await program.dispose();
    }
    expect(bench.step.outputs.map(({ name }) => name)).toContain(
      "grad.encoder.layer.0.attention.query.lora_A.weight",
    );
    expect(bench.deriveMs).toBe(0);
    const running = await contender(engine, bench.traced, bench.feeds);
    const times = await race({ running }, { rounds: 1, warmUps: 0, clock });
    expect(times.running).toHaveLength(1);
    await running.dispose();
  });
});
