import type { Ops } from "../ops.ts";
import type { Site } from "../site.ts";

/**
 * An operator said in simpler standard ones: emits them and returns the name of each output, in order;
 * undefined for an output the node leaves out. Written once, it gives an operator both a forward on engines
 * that lack it and a gradient. All sizes are known; a rule may unroll. What it emits may itself be expanded.
 */
export type Expansion = (at: Site, ops: Ops) => readonly (string | undefined)[];

/** The expansion of an operator with one output. */
export const single =
  (emit: (at: Site, ops: Ops) => string): Expansion =>
  (at, ops) => [emit(at, ops)];
