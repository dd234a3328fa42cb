import "@tensorflow/tfjs-backend-wasm";
import * as tf from "@tensorflow/tfjs-core";
import { Fault } from "@tutti/foundation/fault";
import { differentiate } from "../../src/differentiate.ts";
import { tfjsEngine } from "../../src/engines/tfjs/engine.ts";
import { evaluateNode, evaluates } from "../../src/evaluate/evaluate.ts";
import { inferNode } from "../../src/infer/infer.ts";
import {
  type Graph,
  type Static,
  sizeOf,
  type Tensor,
  type Tensors,
  type TracedGraph,
} from "../../src/ir.ts";
import { withLoss } from "../../src/loss.ts";
import { read } from "../../src/read.ts";
import { tensorOf } from "../../src/tensor.ts";
import { trace } from "../../src/trace.ts";
import { write } from "../../src/write.ts";
import { UNWRITTEN_VALUES } from "./guards.ts";

/** How far a graph came before a Fault stopped it; "whole" if none did. */
export type Fate = "read" | "trace" | "evaluate" | "run" | "differentiate" | "step" | "whole";

/** Elements that a graph's values may have together to be worth running. */
const WORTH = 2 ** 16;

/**
 * Everything this room does with a graph of one node. Whatever is thrown but a Fault is a defect and comes
 * out, and so does a result whose shape or type is not the inferred one.
 */
export async function fateOf(graph: Graph): Promise<Fate> {
  let stage: Fate = "read";
  try {
    const { graph: same } = read(write(graph));
    stage = "trace";
    const traced = trace(same);
    const made = [...traced.statics.values()].reduce((sum, { shape }) => sum + sizeOf(shape), 0);
    if (made > WORTH) return stage;
    stage = "evaluate";
    const evaluated = evaluatedOf(graph);
    agree(traced, evaluated, "evaluate");
    stage = "run";
    agree(traced, await ran(traced), "tfjs");
    stage = "differentiate";
    const derived = derivedOf(traced);
    if (!derived) return "whole";
    stage = "step";
    agree(derived, await ran(derived), "tfjs, differentiated");
    return "whole";
  } catch (error) {
    if (error instanceof Fault && error.code !== "internal") return stage;
    throw error;
  }
}

/** The values of the outputs by the plain rules, all inputs zero that are not constants. */
function evaluatedOf({ nodes, opset, inputs, initializers }: Graph): Tensors {
  const node = nodes[0]!;
  const fed = inputs.map(({ name, dtype, shape }) => [name, zerosOf({ dtype, shape: shape as number[] })]);
  const values = new Map([...initializers, ...(fed as [string, Tensor][])]);
  const constant = (name: string) => values.get(name);
  const known = { opset, constant, static: (name: string) => values.get(name)! };
  const length = inferNode(node, known).length;
  if (!evaluates(node)) return new Map();
  const results = evaluateNode(node, { opset, constant });
  return new Map(node.outputs.slice(0, length).map((name, i) => [name, results[i]!]));
}

async function ran(graph: TracedGraph): Promise<Tensors> {
  const program = await tfjsEngine(tf, "wasm").load(graph);
  try {
    return await program.step(
      new Map(graph.inputs.map(({ name }) => [name, zerosOf(graph.statics.get(name)!)])),
    );
  } finally {
    await program.dispose();
  }
}

/** The gradient of a loss of the first output by each float input; undefined where there is none. */
function derivedOf(traced: TracedGraph): TracedGraph | undefined {
  const wrt = traced.inputs.filter(({ dtype }) => dtype === "float32").map(({ name }) => name);
  const { dtype, shape = [] } = traced.outputs[0]!;
  if (wrt.length === 0 || dtype !== "float32" || !shape?.length) return undefined;
  return differentiate(withLoss(traced, { kind: "mean-squared-error" }), { loss: "loss", wrt });
}

function agree(graph: TracedGraph, results: Tensors, who: string): void {
  for (const [name, { dtype, shape, data }] of results) {
    const inferred = graph.statics.get(name);
    if (!inferred) continue;
    const [was, is] = [`${inferred.dtype}[${inferred.shape}]`, `${dtype}[${shape}]`];
    if (was !== is) throw new Error(`${name}: inferred ${was}, ${who} gives ${is}`);
    // A kernel that left its output unwritten (guards.ts).
    if (!(typeof data[0] === "string") && UNWRITTEN_VALUES.includes(Number(data[0])))
      throw new Error(`${name}: ${who}: nothing was written`);
    if (data.length !== sizeOf(shape)) throw new Error(`${name}: ${who}: ${data.length} values in ${is}`);
  }
}

const zerosOf = ({ dtype, shape }: Static): Tensor =>
  tensorOf(dtype, shape, Array<number>(sizeOf(shape)).fill(0));
