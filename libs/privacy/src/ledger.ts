import { Fault } from "@tutti/foundation/fault";
import { epsilonOfRho } from "./accountant.ts";

/*
 * A device's own account of what it has given away. A line is written, and on disk, before anything is
 * uploaded: a round that then fails has been paid for. Every line counts, also a second one of the same
 * attempt, since fresh noise on the same update is a second look at it.
 */

export type Entry = {
  /** The run's id; ANY_RUN for a line that was torn before it said. */
  readonly run: string;
  readonly round: number;
  readonly attempt: number;
  /** Zero-concentrated ρ of this round, which adds up. Infinite for a torn line of which nothing is known. */
  readonly rho: number;
  /** The δ that the run reports its ε at: for the record. Budgets are counted at the site's own. */
  readonly delta: number;
};

/** What a site is ready to give away to one run. */
export type Budget = { readonly epsilon: number; readonly delta: number };

/** The run of a torn line: it counts for each. */
export const ANY_RUN = "*";

/**
 * Sums of ρ in another order differ by rounding: a plan that fits its budget exactly is not refused for that.
 */
const ROUNDING = 1 + 1e-9;

/** What a run has had of this device: the rounds, their ρ, and its ε at `delta`. */
export function spent(
  entries: readonly Entry[],
  run: string,
  delta: number,
): { readonly rounds: number; readonly rho: number; readonly epsilon: number } {
  const own = entries.filter((entry) => entry.run === run || entry.run === ANY_RUN);
  const rho = own.reduce((sum, entry) => sum + entry.rho, 0);
  return { rounds: own.length, rho, epsilon: own.length === 0 ? 0 : epsilonOfRho(rho, delta) };
}

/**
 * Lets a round through whose ρ still fits the run's budget.
 * @throws Fault("refused") naming the budget, what was spent of it, and what it would be with this round.
 */
export function permitSpend(entries: readonly Entry[], next: Entry, { epsilon, delta }: Budget): void {
  const before = spent(entries, next.run, delta);
  const after = epsilonOfRho(before.rho + next.rho, delta);
  if (after <= epsilon * ROUNDING) return;
  const shown = (value: number) => (Number.isFinite(value) ? value.toPrecision(4) : "without bound");
  throw new Fault("refused", `privacy budget of run ${next.run}`, {
    expected: `at most ε ${epsilon} at δ ${delta}`,
    got:
      `ε ${shown(after)} with round ${next.round}, ` +
      `after ε ${shown(before.epsilon)} in ${before.rounds} rounds`,
    todo: "Raise the budget in the site's policy, or leave the run",
  });
}

/** Rounds beyond any plan's: no budget is asked about more. */
const MOST_ROUNDS = 10_000;

/** How many more rounds at a price of ρ each `permitSpend` would let through, up to MOST_ROUNDS. */
export function roundsLeft(
  entries: readonly Entry[],
  { run, rho }: Pick<Entry, "run" | "rho">,
  { epsilon, delta }: Budget,
): number {
  const before = spent(entries, run, delta).rho;
  const fits = (rounds: number) => epsilonOfRho(before + rounds * rho, delta) <= epsilon * ROUNDING;
  let [low, high] = [0, MOST_ROUNDS + 1];
  while (high - low > 1) {
    const middle = Math.floor((low + high) / 2);
    if (fits(middle)) low = middle;
    else high = middle;
  }
  return low;
}

const RUN = /^[\w.-]{1,128}$/;
const NUMBER = /^\d+(?:\.\d+)?(?:e[+-]?\d+)?$/;

/** The entry's line, newline included: `rho run round attempt delta`. */
export function formatEntry({ run, round, attempt, rho, delta }: Entry): string {
  const line = `${rho} ${run} ${round} ${attempt} ${delta}\n`;
  parseLine(line.slice(0, -1), "ledger entry");
  return line;
}

/**
 * The entries of a ledger's text. A last line without its newline was torn by a crash: it counts as spent.
 * Where its run is not readable it counts for every run, and where its ρ is not, as the largest of the
 * others; as infinite where there are none.
 * @throws Fault("storage") for any other line that is not an entry: a ledger that cannot be read permits
 * nothing.
 */
export function parseLedger(text: string): readonly Entry[] {
  const lines = text.split("\n");
  const torn = lines.pop()!;
  const whole = lines.map((line, at) => parseLine(line, `ledger, line ${at + 1}`));
  return torn === "" ? whole : [...whole, parseTorn(torn, whole)];
}

function parseLine(line: string, what: string): Entry {
  const fields = line.split(" ");
  const [rho, run, ...rest] = fields as [string, string, ...string[]];
  const numbers = [rho, ...rest];
  const [round, attempt, delta] = rest.map(Number) as [number, number, number];
  if (
    fields.length === 5 &&
    numbers.every((field) => NUMBER.test(field) && Number.isFinite(Number(field))) &&
    RUN.test(run) &&
    [round, attempt].every(Number.isSafeInteger)
  )
    return { run, round, attempt, rho: Number(rho), delta };
  throw new Fault("storage", what, {
    expected: "rho run round attempt delta",
    got: JSON.stringify(line.slice(0, 80)),
    todo: "Put the file back from a copy; without it this device cannot know what it has given away",
  });
}

/** What stands before a space was written whole; the first of these is ρ, the second the run. */
function parseTorn(torn: string, whole: readonly Entry[]): Entry {
  const fields = torn.split(" ").slice(0, -1);
  const [rho, run] = fields;
  const largest = whole.length > 0 ? Math.max(...whole.map((entry) => entry.rho)) : Infinity;
  return {
    run: run !== undefined && RUN.test(run) ? run : ANY_RUN,
    round: 0,
    attempt: 0,
    rho: rho !== undefined && NUMBER.test(rho) ? Number(rho) : largest,
    delta: 0,
  };
}
