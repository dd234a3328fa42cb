import { assert } from "@tutti/foundation/check";
import { expanded } from "../../expand/expand.ts";
import type { Node, Static, TracedGraph } from "../../ir.ts";
import { describe, type Known } from "../../site.ts";
import { Constants } from "./constants.ts";
import { OpSite } from "./op-site.ts";
import { hasKernel, operatorOf } from "./ops.ts";
import type { Kernel, Tf, TfTensor } from "./tfjs.ts";

/** One node, ready to run. */
export type Step = {
  readonly label: string;
  readonly kernel: Kernel;
  readonly sources: readonly string[];
  /** Output names and shapes; "" where nobody reads. */
  readonly targets: readonly string[];
  readonly shapes: readonly (readonly number[])[];
  /** Values whose last reader this is. */
  readonly frees: readonly string[];
};

export type Compiled = { readonly steps: readonly Step[]; readonly constants: Constants };

/**
 * Every node checked and turned into a kernel. Nodes that read constants alone run now and become constants
 * (the transposes of frozen weights a gradient reads, for one); nodes nobody reads are left out. Operators
 * without a kernel run as their expansion.
 */
export async function compile(tf: Tf, backend: string, traced: TracedGraph): Promise<Compiled> {
  const graph = expanded(traced, { wanted: (node) => !hasKernel(node) });
  const constants = new Constants(tf, graph.initializers);
  try {
    const known = knownOf(graph, constants);
    const steps: Step[] = [];
    for (const node of wanted(graph)) {
      const step = prepare(node, new OpSite(node, known, { constants, backend }), tf);
      if (step.sources.every((source) => source === "" || constants.has(source))) {
        await fold(tf, step, { constants, known });
      } else steps.push(step);
    }
    const outputs = graph.outputs.map((output) => output.name);
    settle(constants, [...steps.flatMap((step) => step.sources), ...outputs]);
    return { steps: withFrees(steps, { constants, outputs }), constants };
  } catch (error) {
    constants.release();
    throw error;
  }
}

function knownOf(graph: TracedGraph, constants: Constants): Known {
  return {
    opset: graph.opset,
    static(name: string): Static {
      const found = graph.statics.get(name) ?? graph.initializers.get(name);
      assert(found, `value ${name} of graph ${graph.name} was traced`);
      return { dtype: found.dtype, shape: found.shape };
    },
    constant: (name) => constants.data(name),
  };
}

/** The nodes an output depends on, in order. */
function wanted(graph: TracedGraph): readonly Node[] {
  const needed = new Set(graph.outputs.map((output) => output.name));
  const nodes: Node[] = [];
  for (const node of graph.nodes.toReversed()) {
    if (!node.outputs.some((name) => needed.has(name))) continue;
    for (const name of node.inputs) needed.add(name);
    nodes.push(node);
  }
  return nodes.reverse();
}

function prepare(node: Node, site: OpSite, tf: Tf): Step {
  const kernel = operatorOf(site)(site, tf);
  const targets = [...node.outputs];
  const shapes = targets.map((name, index) => (name === "" ? [] : site.result(index).shape));
  return { label: describe(node, site.opset), kernel, sources: site.sources, targets, shapes, frees: [] };
}

async function fold(tf: Tf, step: Step, store: { constants: Constants; known: Known }): Promise<void> {
  const { constants, known } = store;
  const inputs = step.sources.map((source) => (source === "" ? undefined : constants.get(source)));
  const results = tf.tidy(() => run(tf, step, inputs).map((tensor) => tf.keep(tensor)));
  for (const [index, name] of step.targets.entries()) {
    const tensor = results[index];
    if (!tensor) continue;
    if (name === "") tensor.dispose();
    else await constants.fold(name, tensor, known.static(name).dtype);
  }
}

/** Uploads what the steps read and frees what only folding read. */
function settle(constants: Constants, keys: readonly string[]): void {
  const read = new Set(keys.filter((key) => key !== "" && constants.has(key)));
  for (const key of read) constants.get(key);
  constants.retain(read);
}

function withFrees(
  steps: readonly Step[],
  kept: { constants: Constants; outputs: readonly string[] },
): Step[] {
  const later = new Set(kept.outputs);
  const freed: Step[] = [];
  for (const step of steps.toReversed()) {
    const touched = new Set([...step.sources, ...step.targets].filter((name) => name !== ""));
    const frees = [...touched].filter((name) => !later.has(name) && !kept.constants.has(name));
    for (const name of touched) later.add(name);
    freed.push({ ...step, frees });
  }
  return freed.reverse();
}

/**
 * Runs one step in its own scope: whatever the kernel made in between is freed. A result never is the same
 * tensor object as an input, so each may be freed alone.
 */
export function run(tf: Tf, step: Step, inputs: readonly (TfTensor | undefined)[]): TfTensor[] {
  const results = tf.tidy(() => {
    const made = step.kernel(...(inputs as TfTensor[]));
    const list = Array.isArray(made) ? (made as TfTensor[]) : [made as TfTensor];
    return list.map((tensor) => (inputs.includes(tensor) ? tf.clone(tensor) : tensor));
  });
  for (const [index, tensor] of results.entries()) {
    // A node may leave out its last outputs.
    if ((step.targets[index] ?? "") === "") continue;
    const shape = step.shapes[index] ?? [];
    const same =
      shape.length === tensor.shape.length && shape.every((size, axis) => size === tensor.shape[axis]);
    assert(same, `${step.label} made [${tensor.shape}], traced as [${shape}]`);
  }
  return results;
}
