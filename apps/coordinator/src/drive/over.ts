import { Fault } from "@tutti/foundation/fault";

/** A plan is its run's id, so it can be run once. */
export function over({ run, name }: { run: string; name: string }, state: string): Fault {
  const anew = "Change the run file's name or seed for a new run";
  return new Fault("conflict", `run ${name}`, {
    expected: "a plan that was not run before",
    got: `one whose run is over (${state})`,
    todo: state === "finished" ? anew : `Let it go on with \`tutti run resume ${run.slice(0, 12)}\`. ${anew}`,
  });
}

export function finished(name: string): Fault {
  return new Fault("conflict", `run ${name}`, {
    expected: "one that failed or was stopped",
    got: "one that is finished",
    todo: "Start a new run from its newest release",
  });
}

/** Asked of a coordinator that closes: what it did not begin it begins no more. */
export function shuttingDown(): Fault {
  return new Fault("unavailable", "the coordinator is shutting down");
}
