import { seededRandom } from "@tutti/foundation/random";
import { describe, expect, test } from "vitest";
import { float32, type Tensors } from "../../graph/src/ir.ts";
import { read } from "../../graph/src/read.ts";
import { trace } from "../../graph/src/trace.ts";
import { initialAdapter } from "../src/initial.ts";
import { inject } from "../src/inject.ts";
import { resolve } from "../src/resolve.ts";
import { base, CONV, LINEAR, node, random, stored, TABLE, TIED, TWO } from "./bases.ts";
import { apart, engine, runFile } from "./golden.ts";

const all = { ...LINEAR, ...CONV, ...TABLE, TIED, TWO, Constant: stored(TWO, "Constant") };

describe("an injected graph", () => {
  test.each(Object.entries(all))(
    "%s: at the beginning it answers as the base",
    async (_, { bytes, feeds }) => {
      const model = read(bytes);
      const adapter = resolve(model, { rank: 3, alpha: 6, targets: ["*"] });
      const start = initialAdapter(adapter, seededRandom(1), model);
      const inputs = adapter.tensors.map(
        ({ name, shape }) => [name, float32(shape, start.get(name)!)] as const,
      );
      const program = await engine.load(inject(trace(model.graph), adapter));
      const results = await program.step(new Map([...feeds, ...inputs]) as Tensors);
      await program.dispose();
      expect(
        apart(results.get("y")!.data as Float32Array, (await runFile(bytes, feeds)).get("y")!),
      ).toBeLessThan(1e-5);
    },
  );

  test("has the base's inputs, then the adapter's tensors, and the base's outputs", () => {
    const adapter = resolve(read(TWO.bytes), { rank: 1, alpha: 1, targets: ["0"], save: ["head"] });
    const { inputs, outputs, statics } = inject(trace(read(TWO.bytes).graph), adapter);
    expect(inputs.map(({ name, shape }) => `${name} [${shape}]`)).toEqual([
      "x [3,5]",
      ...adapter.tensors.map(({ name, shape }) => `${name} [${shape}]`),
    ]);
    expect(outputs.map(({ name }) => name)).toEqual(["y"]);
    for (const { name, shape } of outputs) expect(statics.get(name)?.shape).toEqual(shape);
  });

  test("every value it holds has statics, and every node follows what it reads", () => {
    for (const { bytes } of Object.values(all)) {
      const model = read(bytes);
      const graph = inject(trace(model.graph), resolve(model, { rank: 3, alpha: 6, targets: ["*"] }));
      const known = new Set([...graph.inputs.map(({ name }) => name), ...graph.initializers.keys(), ""]);
      for (const { inputs, outputs } of graph.nodes) {
        expect(inputs.filter((name) => !known.has(name))).toEqual([]);
        for (const name of outputs) known.add(name);
        expect(outputs.filter((name) => !graph.statics.has(name))).toEqual([]);
      }
    }
  });

  test("never multiplies B by A: the side path is thin", () => {
    const model = read(LINEAR["Gemm transB"]!.bytes);
    const graph = inject(trace(model.graph), resolve(model, { rank: 1, alpha: 1, targets: ["fc"] }));
    const shapes = graph.nodes
      .filter(({ op }) => op === "MatMul")
      .map(({ outputs }) => graph.statics.get(outputs[0]!)!.shape);
    expect(shapes).toEqual([
      [3, 1],
      [3, 4],
    ]);
  });

  test("the graph given is not changed", () => {
    const traced = trace(read(TWO.bytes).graph);
    const before = structuredClone(traced);
    inject(traced, resolve(read(TWO.bytes), { rank: 1, alpha: 1, targets: ["*"], save: ["norm"] }));
    expect(traced).toEqual(before);
  });
});

describe("refusals", () => {
  test("a target that works on constants alone is folded away by the trace", () => {
    const { bytes } = base(
      [
        node("Shape", ["x"], "s"),
        node("Gather", ["pos.weight", "s"], "p", {}, "/pos/Gather"),
        node("MatMul", ["x", "p"], "y", {}, "/fc/MatMul"),
      ],
      { "pos.weight": [9, 5] },
      { x: random([3, 2], "x") },
    );
    const model = read(bytes);
    const adapter = resolve(model, { rank: 1, alpha: 1, targets: ["pos"] });
    expect(() => inject(trace(model.graph), adapter)).toThrow(/adapter of pos: .*depends on constants alone/);
  });

  test("a value the graph computes may not bear a tensor's name", () => {
    const { bytes } = base(
      [node("MatMul", ["x", "fc.weight"], "fc.lora_A.weight"), node("Tanh", ["fc.lora_A.weight"], "y")],
      { "fc.weight": [5, 4] },
      { x: random([3, 5], "x") },
    );
    const model = read(bytes);
    const adapter = resolve(model, { rank: 1, alpha: 1, targets: ["fc"] });
    expect(() => inject(trace(model.graph), adapter)).toThrow(/fc\.lora_A\.weight: expected a name/);
  });
});
