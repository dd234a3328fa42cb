import type { Graph, Node, Tensor } from "@tutti/graph/ir";
import { readsOf } from "@tutti/graph/prune";

/** The stored tensor behind a node's input, and what happens to it on the way. */
export type Source = {
  readonly initializer: string;
  readonly tensor: Tensor;
  /** An odd number of transpositions lies between. */
  readonly transposed: boolean;
  /** A Cast or DequantizeLinear lies between: what the node reads is not what the file stores. */
  readonly converted: boolean;
  /** Those that convert, from the file on. */
  readonly by: readonly Node[];
};

/** Operators whose first input passes through as a weight: `trace` folds them away where it is constant. */
const PASSING: ReadonlySet<string> = new Set(["Identity", "Transpose", "Cast", "DequantizeLinear"]);

/** Finds stored tensors behind values and values' readers, in one untraced graph. */
export class Sources {
  readonly #graph: Graph;
  readonly #makers = new Map<string, Node>();
  readonly #readers = new Map<string, string[]>();

  constructor(graph: Graph) {
    this.#graph = graph;
    const read = (name: string, reader: string) => {
      const readers = this.#readers.get(name);
      if (readers) readers.push(reader);
      else this.#readers.set(name, [reader]);
    };
    for (const node of graph.nodes) {
      for (const output of node.outputs) this.#makers.set(output, node);
      for (const [input, name] of node.inputs.entries()) read(name, useKey(node.outputs[0]!, input));
      // What graphs inside the node read of this one; no use of ours looks like that.
      for (const name of readsOf(node).slice(node.inputs.filter(Boolean).length)) read(name, "inner graph");
    }
    for (const { name } of graph.outputs) read(name, "graph output");
  }

  maker(name: string): Node | undefined {
    return this.#makers.get(name);
  }

  /** The stored tensor behind a value; undefined when it is computed from the graph's inputs. */
  of(name: string): Source | undefined {
    const tensor = this.#graph.initializers.get(name);
    if (tensor) return { initializer: name, tensor, transposed: false, converted: false, by: [] };
    const node = this.#makers.get(name);
    if (!node || !passes(node)) return undefined;
    const source = this.of(node.inputs[0]!);
    if (!source) return undefined;
    if (node.op === "Identity") return source;
    if (node.op !== "Transpose") return { ...source, converted: true, by: [...source.by, node] };
    return swaps(node, source.tensor) ? { ...source, transposed: !source.transposed } : undefined;
  }

  /** Every use of a stored tensor that is not a mere passing on, as keys that `useKey` makes. */
  finalReaders(name: string): readonly string[] {
    const readers = this.#readers.get(name) ?? [];
    return readers.flatMap((reader) => {
      const at = reader.lastIndexOf("#");
      const node = at < 0 ? undefined : this.#makers.get(reader.slice(0, at));
      const passing = node && passes(node) && reader.slice(at) === "#0";
      return passing ? this.finalReaders(node.outputs[0]!) : [reader];
    });
  }
}

/** Names one input of one node. */
export function useKey(node: string, input: number): string {
  return `${node}#${input}`;
}

function passes(node: Node): boolean {
  return node.domain === "" && PASSING.has(node.op) && node.inputs[0] !== "";
}

/** Whether a Transpose exchanges the two axes of a matrix; any other permutation we do not follow. */
function swaps(node: Node, { shape }: Tensor): boolean {
  const perm = node.attributes.get("perm");
  return shape.length === 2 && (perm === undefined || (perm.kind === "ints" && `${perm.value}` === "1,0"));
}
