import { demand } from "@tutti/foundation/check";
import { Fault } from "@tutti/foundation/fault";
import type { Graph, Static, Tensor, Tensors, ValueInfo } from "./ir.ts";

/**
 * Turns named initializers into graph inputs, so that they can be trained and fed; `demote` puts values back.
 * Their values leave the graph: read them from `graph.initializers` first. Before `trace` every weight is
 * there; after it, one that was only read in another form (sliced, transposed) has become that form.
 * @throws Fault("not-found") when a name is no initializer, "unsupported" when it is not float32.
 */
export function promote<G extends Graph>(graph: G, names: readonly string[]): G {
  const initializers = new Map(graph.initializers);
  const promoted: ValueInfo[] = [];
  for (const name of names) {
    const { dtype, shape } = weight(graph, name);
    demand(
      dtype === "float32",
      () => new Fault("unsupported", `promote ${name}`, { expected: "a float32 weight", got: dtype }),
    );
    promoted.push({ name, dtype, shape });
    initializers.delete(name);
  }
  return { ...graph, initializers, inputs: [...graph.inputs, ...promoted] };
}

/** Turns graph inputs into initializers holding the given values: the reverse of `promote`. */
export function demote<G extends Graph & Traced>(graph: G, values: Tensors): G {
  for (const [name, { dtype, shape }] of values) {
    const input = graph.inputs.find((candidate) => candidate.name === name);
    demand(input, () => new Fault("not-found", `demote ${name}`, { expected: "a graph input" }));
    const known = graph.statics?.get(name) ?? { dtype: input.dtype, shape: input.shape };
    demand(
      known.dtype === dtype && `${known.shape}` === `${shape}`,
      () =>
        new Fault("bad-input", `demote ${name}`, {
          expected: `${known.dtype} [${known.shape}]`,
          got: `${dtype} [${shape}]`,
        }),
    );
  }
  return {
    ...graph,
    inputs: graph.inputs.filter(({ name }) => !values.has(name)),
    initializers: new Map([...graph.initializers, ...values]),
  };
}

/** A graph that may have been traced. */
type Traced = { readonly statics?: ReadonlyMap<string, Static> };

function weight(graph: Graph, name: string): Tensor {
  const tensor = graph.initializers.get(name);
  demand(
    tensor,
    () => new Fault("not-found", `promote ${name}`, { expected: "an initializer of the graph" }),
  );
  return tensor;
}
