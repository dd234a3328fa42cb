import { BUGS } from "../../test/simulation/bugs.ts";
import { replayCommand, search, totals } from "../../test/simulation/search.ts";
import type { Verdict } from "../../test/simulation/seed.ts";
import { FEWEST_KINDS } from "../../test/simulation/world.ts";
import type { Claim } from "../claim.ts";

const SEEDS = 1000;
const WORKERS = 2;
const MOST_SECONDS = 180;
/** Every so manieth seed is simulated once more, in another process. */
const EVERY = 50;

export const claim: Claim = {
  name: "coordinator/simulation",
  target:
    `${SEEDS} seeds of the whole federation, at least ${FEWEST_KINDS} kinds of faults in each while runs ` +
    `go on, break no promise, in ${MOST_SECONDS} s on two cores; the same seed leaves the same trace; ` +
    "each planted bug is found",
  async run(report) {
    const began = process.hrtime.bigint();
    const verdicts = await search({ from: 1, to: SEEDS, workers: WORKERS, onVerdict: told(report) });
    const seconds = Number(process.hrtime.bigint() - began) / 1e9;
    report(`${SEEDS} seeds in ${seconds.toFixed(1)} s`);
    const other = await again(verdicts);
    const bugs = await found(report);
    const broken = verdicts.filter(({ violation }) => violation !== null).map(({ seed }) => seed);
    const fewestKinds = Math.min(...verdicts.map(({ strikes }) => Object.keys(strikes).length));
    const figures = {
      seeds: `1..${SEEDS}`,
      seconds: Number(seconds.toFixed(1)),
      violations: broken,
      fewestKindsOfFaults: fewestKinds,
      faults: totals(verdicts.map(({ strikes }) => strikes)),
      met: totals(verdicts.map(({ met }) => met)),
      ...endsOf(verdicts),
      simulatedAgain: other.length,
      otherTraces: other.filter((same) => !same).length,
      bugs,
    };
    const holds =
      broken.length === 0 &&
      seconds <= MOST_SECONDS &&
      fewestKinds >= FEWEST_KINDS &&
      other.every(Boolean) &&
      Object.values(bugs).every((seed) => seed !== null);
    return { figures, holds };
  },
};

function told(report: (line: string) => void): (verdict: Verdict) => void {
  let done = 0;
  return ({ seed, violation }) => {
    if (violation !== null) report(`seed ${seed}: ${violation}; ${replayCommand(seed)}`);
    if (++done % 100 === 0) report(`${done} seeds`);
  };
}

/** Whether each of some seeds leaves the same trace in a process that simulated nothing before it. */
async function again(verdicts: readonly Verdict[]): Promise<boolean[]> {
  const some = verdicts.filter(({ seed }) => seed % EVERY === 0);
  const same: boolean[] = [];
  for (const { seed, trace } of some) {
    const [other] = await search({ from: seed, to: seed, workers: 1 });
    same.push(other?.trace === trace);
  }
  return same;
}

/** The seed that finds each planted bug. */
async function found(report: (line: string) => void): Promise<Record<string, number | null>> {
  const seeds: Record<string, number | null> = {};
  for (const bug of BUGS) {
    const verdicts = await search({ from: 1, to: SEEDS, workers: WORKERS, bug, stopAtFirst: true });
    const first = verdicts.find(({ violation }) => violation !== null);
    seeds[bug.name] = first?.seed ?? null;
    const what = first ? `${first.violation}; ${replayCommand(first.seed, bug)}` : "not found";
    report(`${bug.name} (${bug.what}): ${what.slice(0, 300)}`);
  }
  return seeds;
}

function endsOf(verdicts: readonly Verdict[]) {
  const runs = verdicts.flatMap((verdict) => verdict.runs);
  return {
    releases: sum(verdicts.map(({ rounds }) => rounds)),
    runsFinished: runs.filter((run) => run.startsWith("finished")).length,
    runsFailedByName: runs.filter((run) => run.startsWith("failed: ")).length,
    runsStopped: runs.filter((run) => run.startsWith("stopped")).length,
  };
}

function sum(values: readonly number[]): number {
  return values.reduce((total, value) => total + value, 0);
}
