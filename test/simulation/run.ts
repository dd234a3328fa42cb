// npm run simulate: one seed with its transcript, or a search through many. See --help.
import { availableParallelism } from "node:os";
import { parseArgs } from "node:util";
import { BUGS } from "./bugs.ts";
import { bugOf, replay, replayCommand, search, totals } from "./search.ts";
import type { Verdict } from "./seed.ts";

const HELP = `The whole federation in one thread, from a seed: the real coordinator and the real devices;
clock, dice, network, disks and crashes simulated.

  npm run simulate -- --seed 17               one seed, with its transcript
  npm run simulate -- --seeds 1..1000         search; exit code 1 where a promise was broken
  npm run simulate -- --seed 17 --bug NAME    with a planted bug (the sources are changed as they are loaded)
  npm run simulate -- --seeds 1..1000 --bug NAME   the first seed that finds it

  --workers N   processes side by side (${availableParallelism()})
  --bugs        what can be planted
  --help        this
`;

const { values } = parseArgs({
  options: {
    seed: { type: "string" },
    seeds: { type: "string" },
    bug: { type: "string" },
    workers: { type: "string", default: `${availableParallelism()}` },
    bugs: { type: "boolean", default: false },
    help: { type: "boolean", default: false },
  },
});

const bug = values.bug === undefined ? undefined : bugOf(values.bug);
if (values.bugs) for (const { name, what } of BUGS) process.stdout.write(`${name.padEnd(20)} ${what}\n`);
else if (values.seed !== undefined) process.exitCode = told(await replay(natural(values.seed), bug));
else if (values.seeds !== undefined) process.exitCode = await searched(values.seeds);
else process.stdout.write(HELP);

async function searched(range: string): Promise<number> {
  const [from, to] = range.split("..").map(natural);
  if (from === undefined || to === undefined) throw new Error("--seeds: expected A..B, such as 1..1000");
  const began = process.hrtime.bigint();
  let failed = 0;
  const onVerdict = (verdict: Verdict) => {
    if (verdict.violation !== null) failed += told(verdict);
  };
  const workers = natural(values.workers);
  const found = await search({ from, to, workers, onVerdict, ...(bug && { bug, stopAtFirst: true }) });
  const seconds = Number(process.hrtime.bigint() - began) / 1e9;
  const rounds = found.reduce((sum, verdict) => sum + verdict.rounds, 0);
  process.stdout.write(
    `met: ${counted(totals(found.map(({ met }) => met)))}\n` +
      `${found.length} seeds, ${rounds} releases, ${failed} broken promises, ${seconds.toFixed(1)} s\n`,
  );
  return failed > 0 ? 1 : 0;
}

/** A verdict for people; 1 where a promise was broken. */
function told({ seed, violation, trace, strikes, met, runs, virtualMs }: Verdict): number {
  const lines = [
    `seed ${seed}: ${(virtualMs / 1000).toFixed(1)} s of virtual time, trace ${trace.slice(0, 16)}`,
    `  faults: ${counted(strikes)}`,
    ...(Object.keys(met).length > 0 ? [`  met: ${counted(met)}`] : []),
    ...runs.map((run) => `  run: ${run}`),
    violation === null ? "  every promise was kept" : `  BROKEN: ${violation}`,
    ...(violation === null ? [] : [`  again: ${replayCommand(seed, bug)}`]),
  ];
  process.stdout.write(`${lines.join("\n")}\n`);
  return violation === null ? 0 : 1;
}

function counted(counts: Readonly<Record<string, number>>): string {
  return Object.entries(counts)
    .map(([kind, times]) => `${kind} ${times}`)
    .join(", ");
}

function natural(text: string): number {
  const value = Number(text);
  if (Number.isSafeInteger(value) && value >= 0) return value;
  throw new Error(`${text}: expected a whole number`);
}
