import type { Clock } from "@tutti/foundation/clock";
import { asFault, Fault } from "@tutti/foundation/fault";
import { roundsToLevels } from "../inspect.ts";
import type { Engine, Program, Tensors, TracedGraph } from "../ir.ts";
import { gapOf } from "./gap.ts";

export type AutoOptions = {
  readonly clock: Pick<Clock, "nowMs">;
  /** Timed steps of each candidate. */
  readonly rounds?: number;
  /** No step for measuring begins after this much of it; every candidate takes one step whatever it takes. */
  readonly budgetMs?: number;
  readonly onChosen?: (choice: Choice) => void;
};

/** How a choice came about. */
export type Choice = {
  readonly engine: string;
  /** The quickest step of each candidate that ran, in milliseconds. */
  readonly stepMs: Readonly<Record<string, number>>;
  /** Candidates that did not load, did not run or gave other numbers than the first that ran, and why. */
  readonly refused: readonly Refusal[];
};

type Refusal = { readonly engine: string; readonly because: Fault };

/** A program whose engine is settled by its first step. */
export type AutoProgram = Program & { readonly engine: string | undefined };

export type AutoEngine = Pick<Engine, "name"> & { load(graph: TracedGraph): Promise<AutoProgram> };

const [ROUNDS, BUDGET_MS] = [3, 2000] as const;

/**
 * How far a candidate's first step may be from that of the first one, by `gapOf`: ten times what all engines
 * promise. Where values are rounded to levels, one last bit may put a value on the next level.
 */
const [APART, APART_LEVELS] = [1e-3, 0.05] as const;

/**
 * The quickest of several engines, found out with the graph and the feeds that are to be run: `load` loads
 * every candidate, and the first step is taken by each, once to warm up and then in turns, so that what else
 * the machine does falls on all alike. The others are disposed. A step is a function of its feeds, so its
 * result is that of any one engine (same numbers to 1e-4), and one whose results are not the first one's is
 * refused, however quick: put an engine first that is known to be right. Measuring on the caller's own feeds
 * needs no made-up ones that a model might refuse. Ties go to the first. `name` is "auto" until a program
 * has chosen, then what was chosen.
 * @throws Fault("unavailable") with each candidate's reason, when none loads; when none can take the first
 * step, a Fault of the first candidate's code, and the next step tries again.
 */
export function autoEngine(candidates: readonly Engine[], options: AutoOptions): AutoEngine {
  const chosen = new Set<string>();
  return {
    get name() {
      return chosen.size === 0 ? "auto" : [...chosen].join(", ");
    },
    async load(graph) {
      const loaded: Runner[] = [];
      const refused: Refusal[] = [];
      for (const engine of candidates) {
        try {
          loaded.push({ engine: engine.name, program: await engine.load(graph) });
        } catch (cause) {
          refused.push({ engine: engine.name, because: asFault(cause) });
        }
      }
      if (loaded.length === 0) throw none("unavailable", `graph ${graph.name}`, refused);
      return programOf(loaded, refused, {
        ...options,
        apart: roundsToLevels(graph) ? APART_LEVELS : APART,
        onChosen(choice) {
          chosen.add(choice.engine);
          options.onChosen?.(choice);
        },
      });
    },
  };
}

type Runner = { readonly engine: string; readonly program: Program };
type ContestOptions = AutoOptions & { readonly apart: number };

function programOf(
  loaded: readonly Runner[],
  unloaded: readonly Refusal[],
  options: ContestOptions,
): AutoProgram {
  let winner: Runner | undefined;
  let choosing: Promise<unknown> = Promise.resolve();
  const first = async (feeds: Tensors): Promise<Tensors> => {
    // A step that came while another one chose.
    if (winner) return winner.program.step(feeds);
    const { ran, refused } = await contest(loaded, feeds, options);
    const best = ran.reduce((a, b) => (b.stepMs < a.stepMs ? b : a));
    winner = best.runner;
    for (const { program } of loaded) if (program !== winner.program) await program.dispose();
    const stepMs = Object.fromEntries(ran.map((one) => [one.runner.engine, one.stepMs]));
    options.onChosen?.({ engine: winner.engine, stepMs, refused: [...unloaded, ...refused] });
    return best.outputs;
  };
  return {
    get engine() {
      return winner?.engine;
    },
    step(feeds) {
      if (winner) return winner.program.step(feeds);
      const result = choosing.then(() => first(feeds));
      choosing = result.catch(() => {});
      return result;
    },
    async dispose() {
      await choosing;
      for (const { program } of winner ? [winner] : loaded) await program.dispose();
    },
  };
}

type Ran = { readonly runner: Runner; readonly outputs: Tensors; readonly stepMs: number };

async function contest(loaded: readonly Runner[], feeds: Tensors, options: ContestOptions) {
  const { clock, apart } = options;
  const startedMs = clock.nowMs();
  const timed = async (runner: Runner): Promise<Ran> => {
    const fromMs = clock.nowMs();
    const outputs = await runner.program.step(feeds);
    return { runner, outputs, stepMs: clock.nowMs() - fromMs };
  };
  const warm: Ran[] = [];
  const refused: Refusal[] = [];
  for (const runner of loaded) {
    try {
      const ran = await timed(runner);
      if (warm[0]) checkSame(ran, warm[0], apart);
      warm.push(ran);
    } catch (cause) {
      refused.push({ engine: runner.engine, because: asFault(cause) });
    }
  }
  if (warm.length === 0) throw none(refused[0]!.because.code, "first step", refused);
  const best = await raced(warm, timed, { ...options, startedMs });
  return { ran: best, refused };
}

/** @throws Fault("internal") that says where two candidates' first steps differ most, and by how much. */
function checkSame(ran: Ran, first: Ran, apart: number): void {
  const { output, gap } = gapOf(ran.outputs, first.outputs);
  if (gap <= apart) return;
  throw new Fault("internal", `${ran.runner.engine}: ${output}`, {
    expected: `within ${apart} of ${first.runner.engine}'s, relative to the largest element`,
    got: `${gap.toPrecision(2)} apart`,
    todo: "Leave this engine out: it computes something else on this device",
  });
}

/**
 * The quickest step of each in rounds while there is time. First steps set things up, and count only where
 * there was no time for a whole round.
 */
async function raced(
  warm: readonly Ran[],
  timed: (runner: Runner) => Promise<Ran>,
  options: AutoOptions & { startedMs: number },
): Promise<readonly Ran[]> {
  const { clock, startedMs, rounds = ROUNDS, budgetMs = BUDGET_MS } = options;
  let best: readonly Ran[] = warm;
  for (let round = 0; round < rounds && warm.length > 1; round++) {
    const turn: Ran[] = [];
    for (const [at, { runner }] of best.entries()) {
      if (clock.nowMs() - startedMs >= budgetMs) return best;
      const ran = await timed(runner);
      turn.push(round > 0 && best[at]!.stepMs < ran.stepMs ? best[at]! : ran);
    }
    best = turn;
  }
  return best;
}

function none(code: Fault["code"], what: string, refused: readonly Refusal[]): Fault {
  const got = refused.map(({ engine, because }) => `${engine}: ${because.message}`).join("; ");
  return new Fault(code, `auto: ${what}`, {
    expected: "an engine that runs it",
    got: got || "no candidates",
  });
}
