import type { Graph, Node, Tensor } from "@tutti/graph/ir";
import { type Wires, wiresOf } from "./wires.ts";

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

/** Finds stored tensors behind values, and the nodes that compute with them, in one untraced graph. */
export class Sources {
  readonly #graph: Graph;
  readonly #wires: Wires;

  constructor(graph: Graph) {
    this.#graph = graph;
    this.#wires = wiresOf(graph);
  }

  /** The stored tensor behind a value; undefined when it is computed from the graph's inputs. */
  of(name: string): Source | undefined {
    const tensor = this.#graph.initializers.get(name);
    if (tensor) return { initializer: name, tensor, transposed: false, converted: false, by: [] };
    const node = this.#wires.maker(name);
    if (!node || !passes(node)) return undefined;
    const source = this.of(node.inputs[0]!);
    if (!source) return undefined;
    if (node.op === "Identity") return source;
    if (node.op !== "Transpose") return { ...source, converted: true, by: [...source.by, node] };
    return swaps(node, source.tensor) ? { ...source, transposed: !source.transposed } : undefined;
  }

  /**
   * Every use of a stored tensor that is not a mere passing on: a key that `useKey` makes, or another word
   * for a reader that is not a node of this graph.
   */
  finalReaders(name: string): readonly string[] {
    return this.#wires.readers(name).flatMap((reader) => {
      if (typeof reader === "string") return [reader];
      const { node, input } = reader;
      const passing = passes(node) && input === 0;
      return passing ? this.finalReaders(node.outputs[0]!) : [useKey(node.outputs[0]!, input)];
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
