import { merge } from "@tutti/adapter/merge";
import { epsilonOfRho, noiseFor } from "@tutti/privacy/accountant";
import type { PreparedRun } from "tutti/prepare";
import { deviation, mean, rounded } from "../learn-figures.ts";
import { accuracyOf, dealt, type LearningTask } from "./tasks.ts";
import { trainTogether } from "./together.ts";

export const DELTA = 1e-5;
/** ε that a run is planned for; null is no noise. */
export type Planned = number | null;

/** One ε of one task, over all seeds. */
export type Row = {
  readonly epsilon: Planned;
  readonly noiseMultiplier: number | null;
  /** By the accountant: of all sums as a device counts them beforehand, and of who was in them. */
  readonly counted: number | null;
  readonly realised: number | null;
  readonly perSeed: readonly number[];
  readonly mean: number;
  readonly std: number;
};

export type Swept = {
  readonly devices: number;
  /** Fewest and most. */
  readonly rowsPerDevice: readonly [number, number];
  readonly testRows: number;
  readonly rounds: number;
  readonly clipNorm: number;
  /** Numbers that travel. */
  readonly coordinates: number;
  readonly base: number;
  readonly rows: readonly Row[];
};

type Options = {
  readonly seeds: readonly number[];
  readonly epsilons: readonly Planned[];
  readonly report: (line: string) => void;
};

/** Test accuracy of a task's runs, each planned for an ε; the same rows, batches and devices at each. */
export async function sweep(task: LearningTask, { seeds, epsilons, report }: Options): Promise<Swept> {
  const { plan, base } = await task.prepare(seeds[0]!);
  const rows: Row[] = [];
  let coordinates = 0;
  for (const epsilon of epsilons) {
    const runs = [];
    for (const seed of seeds) runs.push(await oneRun(task, seed, epsilon));
    const perSeed = runs.map(({ accuracy }) => accuracy);
    const [{ noiseMultiplier, counted, realised }] = runs as [Run];
    coordinates = runs[0]!.coordinates;
    const spread = { mean: rounded(mean(perSeed)), std: rounded(deviation(perSeed)) };
    rows.push({ epsilon, noiseMultiplier, counted, realised, perSeed, ...spread });
    report(`${task.name}, ε ${epsilon ?? "∞"}: ${perSeed.join(" ")}`);
  }
  const counts = dealt(task, 0).map(({ count }) => count);
  return {
    devices: counts.length,
    rowsPerDevice: [Math.min(...counts), Math.max(...counts)],
    testRows: task.test.count,
    rounds: plan.rounds,
    clipNorm: plan.update.clipNorm,
    coordinates,
    base: rounded(await accuracyOf(base, task)),
    rows,
  };
}

type Run = Pick<Row, "noiseMultiplier" | "counted" | "realised"> & {
  readonly accuracy: number;
  readonly coordinates: number;
};

async function oneRun(task: LearningTask, seed: number, epsilon: Planned): Promise<Run> {
  const prepared = withNoise(await task.prepare(seed), epsilon);
  const { plan, base } = prepared;
  const budget = epsilon === null ? null : { epsilon, delta: DELTA, modes: ["distributed"] };
  const outcome = await trainTogether(prepared, dealt(task, seed), budget);
  const model = merge(base, outcome.adapter, outcome.parameters);
  const epsilonIfAny = (rho: number) => (plan.privacy ? epsilonOfRho(rho, DELTA) : null);
  return {
    accuracy: rounded(await accuracyOf(model, task)),
    coordinates: outcome.coordinates,
    noiseMultiplier: plan.privacy?.noiseMultiplier ?? null,
    counted: epsilonIfAny(outcome.countedRho),
    realised: epsilonIfAny(outcome.claimedRho),
  };
}

/** The same run with so much noise that all its sums together cost a device ε; null leaves it as it is. */
export function withNoise(prepared: PreparedRun, epsilon: Planned): PreparedRun {
  if (epsilon === null) return prepared;
  const { plan } = prepared;
  const noiseMultiplier = noiseFor({ epsilon, delta: DELTA, steps: plan.rounds + 1, sampling: 1 });
  const privacy = { mode: "distributed", noiseMultiplier, delta: DELTA, slots: 0.1 } as const;
  return { ...prepared, plan: { ...plan, privacy } };
}
