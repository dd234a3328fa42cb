import type { Node } from "../ir.ts";
import type { Ops } from "../ops.ts";
import { type Known, Site } from "../site.ts";

/**
 * The reverse of one operator: for each input a function that emits its gradient, or undefined where there
 * is none (integers, shapes, masks). Only the functions of inputs that lead to a wanted value are called.
 */
export type GradientRule = (site: Adjoint, ops: Ops) => readonly ((() => string) | undefined)[];

type Arriving = {
  /** Gradients of the loss at the outputs; undefined where the loss does not depend on one. */
  readonly grads: readonly (string | undefined)[];
  /** Operators that read the first output, for rules that must know what hides a NaN. */
  readonly readers: ReadonlySet<string>;
};

/** One node as its rule sees it: inputs and attributes, and the gradient that arrives at its outputs. */
export class Adjoint extends Site {
  readonly grads: readonly (string | undefined)[];
  readonly readers: ReadonlySet<string>;

  constructor(node: Node, known: Known, arriving: Arriving) {
    super(node, known);
    this.grads = arriving.grads;
    this.readers = arriving.readers;
  }

  /** Gradient at the first output; rules of operators with several outputs read `grads`. */
  get dy(): string {
    return this.grads[0]!;
  }

  /** The first output. */
  get y(): string {
    return this.node.outputs[0]!;
  }
}

/** Rules are computed lazily per input; what two of them share is emitted once. */
export function once<T>(emit: () => T): () => T {
  let emitted: T | undefined;
  return () => {
    emitted ??= emit();
    return emitted;
  };
}
