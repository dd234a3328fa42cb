/**
 * What a rule remembers between rounds: vectors with one value per coordinate of the parameters. No counters
 * and no other shapes, so that any rule's state can be cut to the tensors of one round and saved as it is.
 */
export type State = readonly Float32Array[];

/**
 * A server rule: two functions (CONTRIBUTING.md, The house style, on a page). Both are pure, and
 * coordinate-wise: what happens to one coordinate depends on that coordinate alone, so a rule may be applied
 * tensor by tensor.
 */
export type Rule = {
  /** The state before the first round, for `length` coordinates. */
  begin(length: number): State;
  /** The step to add to the parameters, and the next state. `mean` is trained − sent, averaged. */
  apply(mean: Float32Array, held: State): [step: Float32Array, held: State];
};
