import { Fault } from "@tutti/foundation/fault";
import { describe, expect, test } from "vitest";
import { tfjsEngine } from "../../src/engines/tfjs/engine.ts";
import { type Graph, sizeOf, type Tensor, type TracedGraph } from "../../src/ir.ts";
import { read } from "../../src/read.ts";
import { trace } from "../../src/trace.ts";
import { type BackendCase, backendCases } from "../backend-cases.ts";
import { expectTensor } from "../compare.ts";
import { NIGHTLY } from "../runs.ts";
import { BACKENDS, tf } from "./harness.ts";

/** How many of the standard's cases run today on each backend; only ever raised. */
const RUN_CASES = { wasm: 675, cpu: NIGHTLY ? 675 : 672 };

/** Elements up to which a case runs on cpu by day: beyond, one takes seconds. wasm runs them all. */
const LARGE = 50_000;

/**
 * The ONNX standard's own cases: whatever traces and loads must compute the standard's values; whatever does
 * not load must be refused as unsupported, by name.
 */
describe.each(BACKENDS)("ONNX backend node tests on tfjs/%s", (backend) => {
  const cases = backendCases();
  const small = ({ inputs }: BackendCase) => inputs.every((tensor) => sizeOf(tensor.shape) <= LARGE);
  const due = backend === "cpu" && !NIGHTLY ? cases.filter(small) : cases;
  const runnable = due.flatMap((item) => {
    const graph = traced(item);
    return graph && graph.nodes.length > 0 ? [{ item, graph }] : [];
  });
  let ran = 0;
  const refused = new Map<string, number>();

  test.each(runnable.map(({ item, graph }) => [item.name, item, graph] as const))(
    "%s",
    async (name, item, graph) => {
      await tf.setBackend(backend);
      const before = tf.memory().numTensors;
      const program = await tfjsEngine(tf, backend)
        .load(graph)
        .catch((error: unknown) => error);
      if (program instanceof Fault && program.code === "unsupported") {
        expect(tf.memory().numTensors, "tensors after a refused load").toBe(before);
        refused.set(program.message, (refused.get(program.message) ?? 0) + 1);
        return;
      }
      if (program instanceof Error) throw program;
      const loaded = program as Awaited<ReturnType<ReturnType<typeof tfjsEngine>["load"]>>;
      const all = read(item.model).graph.inputs.map(
        ({ name }, index) => [name, item.inputs[index]!] as const,
      );
      const results = await loaded.step(new Map(all));
      await loaded.dispose();
      expect(tf.memory().numTensors, "tensors after dispose").toBe(before);
      for (const [index, { name: output }] of graph.outputs.entries())
        expectTensor(results.get(output), item.outputs[index]!, {
          what: `${name} ${output}`,
          absolute: 1e-4,
          relative: 1e-3,
        });
      ran++;
    },
  );

  test.skipIf(cases.length === 0)("as many as before", () => {
    if (process.env.SHOW_REFUSED) console.log([...refused.keys()].join("\n"));
    console.log(`${backend}: ${ran} of ${runnable.length} traced cases ran, ${total(refused)} refused`);
    expect(ran).toBeGreaterThanOrEqual(RUN_CASES[backend]);
  });
});

/** Traced with its inputs fed, or where shapes hang on them with the integer ones constant. */
function traced(item: BackendCase): TracedGraph | undefined {
  try {
    const { graph } = read(item.model);
    const inputs = graph.inputs.map(({ name }, index) => [name, item.inputs[index]] as const);
    if (inputs.some(([, tensor]) => !tensor) || item.outputs.length !== graph.outputs.length)
      return undefined;
    const given = inputs as readonly (readonly [string, Tensor])[];
    return (
      attempt(
        graph,
        given.filter(() => true),
        [],
      ) ?? bound(graph, given)
    );
  } catch {
    return undefined;
  }
}

type Given = readonly (readonly [string, Tensor])[];

function bound(graph: Graph, given: Given): TracedGraph | undefined {
  const isShape = ([name, tensor]: Given[number]) =>
    tensor.dtype !== "float32" && name !== "x" && name !== "data";
  return attempt(
    graph,
    given.filter((it) => !isShape(it)),
    given.filter(isShape),
  );
}

function attempt(graph: Graph, fed: Given, held: Given): TracedGraph | undefined {
  const names = new Set(held.map(([name]) => name));
  const inputs = graph.inputs.filter(({ name }) => !names.has(name));
  const shapes = Object.fromEntries(fed.map(([name, { shape }]) => [name, shape]));
  try {
    return trace({ ...graph, inputs, initializers: new Map([...graph.initializers, ...held]) }, { shapes });
  } catch {
    return undefined;
  }
}

const total = (counts: ReadonlyMap<string, number>): number =>
  [...counts.values()].reduce((sum, n) => sum + n, 0);
