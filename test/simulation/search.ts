import { spawn } from "node:child_process";
import { createInterface } from "node:readline";
import { fileURLToPath } from "node:url";
import { BUGS, type Bug } from "./bugs.ts";
import type { Verdict } from "./seed.ts";

/** Seeds `from`, `from + step`, … up to `to`. */
export type Range = {
  readonly from: number;
  readonly to: number;
  readonly step: number;
  readonly stopAtFirst: boolean;
  readonly read: boolean;
};

export type SearchOptions = {
  readonly from: number;
  readonly to: number;
  /** Processes side by side. */
  readonly workers: number;
  /** A planted bug: the sources are changed as they are loaded, nowhere else. */
  readonly bug?: Bug;
  readonly stopAtFirst?: boolean;
  readonly onVerdict?: (verdict: Verdict) => void;
};

/** A simulation is all small objects that die young. */
const HEAP = ["--max-semi-space-size=64"];
const CHILD = fileURLToPath(new URL("child.ts", import.meta.url));
const REGISTER = new URL("../attacks/mutate/register.mjs", import.meta.url).href;

/** Simulates seeds in processes of their own; verdicts in the order of their seeds. */
export async function search(options: SearchOptions): Promise<Verdict[]> {
  const { from, to, workers, bug, stopAtFirst = false, onVerdict } = options;
  const found: Verdict[] = [];
  const ranges = Array.from({ length: Math.min(workers, to - from + 1) }, (_, at) => {
    return { from: from + at, to, step: workers, stopAtFirst, read: false };
  });
  const children = ranges.map((range) => started(range, bug));
  const end = () => {
    for (const child of children) child.kill();
  };
  await Promise.all(
    children.map((child) =>
      verdictsOf(child, (verdict) => {
        found.push(verdict);
        onVerdict?.(verdict);
        if (stopAtFirst && verdict.violation !== null) end();
      }),
    ),
  );
  const all = found.sort((a, b) => a.seed - b.seed);
  if (!stopAtFirst && all.length !== to - from + 1)
    throw new Error(`${all.length} of ${to - from + 1} seeds ended`);
  return all;
}

/** One seed with its transcript on this process's stdout; whether every promise was kept. */
export function replay(seed: number, bug?: Bug): Promise<Verdict> {
  const child = started({ from: seed, to: seed, step: 1, stopAtFirst: false, read: true }, bug);
  return new Promise((resolve, reject) => {
    let verdict: Verdict | null = null;
    createInterface({ input: child.stdout }).on("line", (line) => {
      if (line.startsWith("{")) verdict = JSON.parse(line) as Verdict;
      else process.stdout.write(`${line}\n`);
    });
    child.once("close", (code) => {
      if (verdict) resolve(verdict);
      else reject(new Error(`the simulation ended without a verdict, code ${code}`));
    });
  });
}

/** Counts of many verdicts, added by their names. */
export function totals(counts: readonly Readonly<Record<string, number>>[]): Record<string, number> {
  const all = new Map<string, number>();
  for (const [name, count] of counts.flatMap((one) => Object.entries(one)))
    all.set(name, (all.get(name) ?? 0) + count);
  return Object.fromEntries([...all].sort(([a], [b]) => (a < b ? -1 : 1)));
}

export function bugOf(name: string): Bug {
  const bug = BUGS.find((one) => one.name === name);
  if (bug) return bug;
  throw new Error(`bug ${name}: expected one of ${BUGS.map((one) => one.name).join(", ")}`);
}

/** What to type to see a seed again. */
export function replayCommand(seed: number, bug?: Bug): string {
  return `npm run -s simulate -- --seed ${seed}${bug ? ` --bug ${bug.name}` : ""}`;
}

function started(range: Range, bug: Bug | undefined) {
  const patches = bug ? ["--import", REGISTER] : [];
  const env = { ...process.env, TUTTI_TEST_PATCHES: JSON.stringify(bug?.patches ?? []) };
  return spawn(process.execPath, [...HEAP, ...patches, "--import", "tsx", CHILD, JSON.stringify(range)], {
    env,
    stdio: ["ignore", "pipe", "inherit"],
  });
}

function verdictsOf(child: ReturnType<typeof started>, take: (verdict: Verdict) => void): Promise<void> {
  return new Promise((resolve, reject) => {
    createInterface({ input: child.stdout }).on("line", (line) => take(JSON.parse(line) as Verdict));
    child.once("error", reject);
    // Ended by a signal, it was stopped at another's find.
    child.once("close", (code) => {
      if (code) reject(new Error(`the simulation ended with code ${code}`));
      else resolve();
    });
  });
}
