import { Fault } from "@tutti/foundation/fault";
import type { RunStatus } from "@tutti/wire/admin";
import type { AdminLink } from "./owner.ts";

/** Every run that the coordinator tells of, oldest first, in brief. */
export async function listedRuns(admin: Pick<AdminLink, "listRuns">): Promise<RunStatus[]> {
  return (await admin.listRuns({ $typeName: "tutti.v1.ListRunsRequest" })).runs;
}

/**
 * The run of this name, or whose id begins so, or (with nothing given) the newest one. Where several fit, the
 * one that is in progress is meant, and of runs that are over the newest.
 * @throws Fault("not-found"); Fault("conflict") where several that fit are in progress.
 */
export function findRun(runs: readonly RunStatus[], said: string | undefined): RunStatus {
  const fitting = said ? called(runs, said) : runs.slice(-1);
  const found = inProgress(fitting, `run ${said}`) ?? fitting.at(-1);
  if (found) return found;
  const what = said ? `run ${said}` : "run";
  if (runs.length === 0)
    throw new Fault("not-found", what, { expected: "one", got: "no run yet", todo: START_ONE });
  const known = runs.map((one) => `${one.name} (${idOf(one)})`).join(", ");
  throw new Fault("not-found", what, { expected: `one of: ${known}` });
}

const START_ONE = "Start one with `tutti run start`";

/**
 * What to stop: where nothing is named the run in progress, and never one that is over.
 * @throws Fault("not-found") where none is in progress.
 */
export function findRunToStop(runs: readonly RunStatus[], said?: string): RunStatus {
  const meant = said ?? inProgress(runs, "run")?.run;
  const newest = runs.at(-1);
  if (meant !== undefined || newest === undefined) return findRun(runs, meant);
  throw new Fault("not-found", "run", {
    expected: "one in progress",
    got: `none; the newest, ${newest.name} (${idOf(newest)}), is ${newest.state}`,
  });
}

/** @throws Fault("conflict") where several of them are in progress. */
function inProgress(runs: readonly RunStatus[], what: string): RunStatus | undefined {
  const running = runs.filter(({ state }) => state === "running");
  if (running.length > 1)
    throw new Fault("conflict", what, {
      expected: "one run in progress",
      got: running.map(idOf).join(", "),
      todo: "Name it by its id",
    });
  return running[0];
}

/** A name comes before the beginning of an id. */
function called(runs: readonly RunStatus[], said: string): RunStatus[] {
  const named = runs.filter(({ name }) => name === said);
  return named.length > 0 ? named : runs.filter(({ run }) => run.startsWith(said));
}

/** What a run that was just started finds in progress: itself from before, or others of its name. */
export function foundRunning(before: readonly RunStatus[], { run, name }: { run: string; name: string }) {
  const running = before.filter(({ state }) => state === "running");
  return {
    itself: running.find((one) => one.run === run),
    others: running.filter((one) => one.run !== run && one.name === name).map(idOf),
  };
}

/** @throws Fault("failed") for a run that failed or was stopped: a code of its own, which no retry mends. */
export function mustBeFinished(run: string, last: RunStatus | undefined): RunStatus {
  if (last?.state === "finished") return last;
  throw new Fault("failed", `run ${run.slice(0, 12)}`, {
    expected: "finished",
    got: last ? `${last.state}: ${last.reason}` : "no word of its end",
    todo: `Once its cause is mended, let it go on: \`tutti run resume ${run.slice(0, 12)}\``,
  });
}

function idOf({ run }: RunStatus): string {
  return run.slice(0, 12);
}
