import { assert } from "@tutti/foundation/check";
import { Fault } from "@tutti/foundation/fault";
import { type Layout, unflatten } from "@tutti/update/layout";
import type { Rule, State } from "./types.ts";

export type StepOptions = {
  /** Every tensor of the adapter. */
  readonly layout: Layout;
  /** The tensors that this round moves: names of `layout`, same shapes, any order. */
  readonly active: Layout;
  /** Parameters before the round (length of `layout`). */
  readonly parameters: Float32Array;
  /** The cohort's mean update (length of `active`). */
  readonly mean: Float32Array;
  readonly rule: Rule;
  /** The rule's state over the whole of `layout`: `rule.begin(layout.length)` before round 0. */
  readonly held: State;
};

/** Parameters and state after a round. */
export type Stepped = { readonly parameters: Float32Array; readonly held: State };

/**
 * Moves the active tensors by the rule's step; neither arguments nor resting tensors are touched.
 *
 * A tensor that rests (RoLoRA's other factor, FFA's A) keeps its parameters and its state bit for bit: its
 * clock stands still. Momentum does not fade over rounds in which nothing was learnt about the tensor, and
 * does not push it either; RoLoRA's A in rounds 0, 2, 4 moves just as it would in a run of A's rounds alone.
 * A result that is not finite is a Fault, and the round can be dropped.
 */
export function serverStep({ layout, active, parameters, mean, rule, held }: StepOptions): Stepped {
  const next = { parameters: parameters.slice(), held: held.map((vector) => vector.slice()) };
  const before = unflatten(layout, parameters);
  const after = unflatten(layout, next.parameters);
  const heldBefore = held.map((vector) => unflatten(layout, vector));
  const heldAfter = next.held.map((vector) => unflatten(layout, vector));

  const shapes = new Map(layout.tensors.map(({ name, shape }) => [name, shape.join()]));
  const means = unflatten(active, mean);
  for (const { name, shape } of active.tensors) {
    assert(shapes.get(name) === shape.join(), `server step: ${name} lies in the layout with its shape`);
    const old = before.get(name)!;
    const [step, state] = rule.apply(
      means.get(name)!,
      heldBefore.map((tensors) => tensors.get(name)!),
    );
    after.get(name)!.set(step.map((value, i) => finite(name, old[i]! + value)));
    state.forEach((vector, slot) => {
      heldAfter[slot]!.get(name)!.set(vector);
    });
  }
  return next;
}

function finite(name: string, value: number): number {
  if (Number.isFinite(Math.fround(value))) return value;
  throw new Fault("refused", `server step, tensor ${name}`, {
    expected: "finite parameters",
    got: `${value}`,
    todo: "Lower server.learningRate or update.clipNorm",
  });
}
