import { Fault } from "@tutti/foundation/fault";

/** A plan is its run's id, so it can be run once. */
export function over(name: string, state: string): Fault {
  return new Fault("conflict", `run ${name}`, {
    expected: "a plan that was not run before",
    got: `one whose run is over (${state})`,
    todo: "Change the run file's name or seed for a new run",
  });
}
