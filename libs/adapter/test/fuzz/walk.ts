import "@tensorflow/tfjs-backend-wasm";
import * as tf from "@tensorflow/tfjs-core";
import { equalBytes } from "@tutti/foundation/bytes";
import { Fault } from "@tutti/foundation/fault";
import { seededRandom } from "@tutti/foundation/random";
import type { Bind } from "@tutti/graph/bind";
import { differentiate } from "@tutti/graph/differentiate";
import { tfjsEngine } from "@tutti/graph/engines/tfjs/engine";
import { type Graph, type Static, sizeOf, type Tensor, type TracedGraph } from "@tutti/graph/ir";
import { withLoss } from "@tutti/graph/loss";
import { type Model, read } from "@tutti/graph/read";
import { tensorOf } from "@tutti/graph/tensor";
import { trace } from "@tutti/graph/trace";
import { write } from "@tutti/graph/write";
import { attach, detach } from "../../src/attach.ts";
import { initialAdapter } from "../../src/initial.ts";
import { inject } from "../../src/inject.ts";
import { merge } from "../../src/merge.ts";
import { resolve } from "../../src/resolve.ts";
import { unmerge } from "../../src/unmerge.ts";

const SPEC = { rank: 2, alpha: 4, targets: "all-linear" } as const;

/** How far a file came before a Fault stopped it; "whole" if none did. */
export type Fate =
  | "read"
  | "resolve"
  | "trace"
  | "inject"
  | "loss"
  | "differentiate"
  | "write"
  | "run"
  | "merge"
  | "unmerge"
  | "attach"
  | "whole";

/**
 * Everything that Tutti does with a model, one step on zeros included. Whatever is thrown but a Fault is a
 * defect and comes out.
 */
export async function fateOf(bytes: Uint8Array): Promise<Fate> {
  let stage: Fate = "read";
  try {
    const model = read(bytes);
    stage = "resolve";
    const adapter = resolve(model, SPEC);
    stage = "trace";
    const traced = trace(model.graph, sizesFor(model.graph));
    stage = "inject";
    const injected = inject(traced, adapter);
    stage = "loss";
    const judged = withLoss(injected, { kind: "mean-squared-error" });
    stage = "differentiate";
    const wrt = adapter.tensors.map(({ name }) => name);
    const derived = differentiate(judged, { loss: "loss", wrt });
    stage = "write";
    written(derived);
    stage = "run";
    await ran(derived);
    stage = "merge";
    const tensors = initialAdapter(adapter, seededRandom("fuzz"), model);
    const merged = merge(bytes, adapter, tensors);
    stage = "unmerge";
    unmerge(merged, adapter, tensors, { base: bytes });
    stage = "attach";
    const attached = attach(bytes, adapter);
    read(attached);
    if (!equalBytes(detach(attached), bytes)) throw new Error("what was attached does not come off");
    return "whole";
  } catch (error) {
    if (error instanceof Fault && error.code !== "internal") return stage;
    throw error;
  }
}

/** What we write, we read. Kept small: a mutant may hold tensors that only their sizes make large. */
function written(graph: Graph): Model | undefined {
  const held = [...graph.initializers.values()].reduce((sum, { data }) => sum + data.length, 0);
  return held > 2 ** 22 ? undefined : read(write(graph));
}

/** One step on zeros, of graphs that are small enough to be worth it. */
async function ran(graph: TracedGraph): Promise<void> {
  const size = [...graph.statics.values()].reduce((sum, { shape }) => sum + sizeOf(shape), 0);
  if (size > 2 ** 20) return;
  const program = await tfjsEngine(tf, "wasm").load(graph);
  try {
    const zeros = graph.inputs.map(({ name }) => [name, zerosOf(graph.statics.get(name)!)] as const);
    await program.step(new Map(zeros));
  } finally {
    await program.dispose();
  }
}

const zerosOf = ({ dtype, shape }: Static): Tensor =>
  tensorOf(dtype, shape, Array<number>(sizeOf(shape)).fill(0));

/** Two rows of everything, three of what else is open; 40 tokens where a model has tokens. */
function sizesFor(graph: Graph): Bind {
  const symbols = new Map<string, number>();
  for (const { shape } of graph.inputs)
    for (const [axis, dimension] of (shape ?? []).entries())
      if (typeof dimension === "string")
        symbols.set(dimension, symbols.get(dimension) ?? (axis === 0 ? 2 : 3));
  return { symbols: Object.fromEntries(symbols) };
}
