import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { readSafetensors } from "@tutti/adapter/formats/safetensors";
import { activeTensors } from "@tutti/adapter/method";
import type { CsvTable } from "@tutti/client-sdk/csv";
import type { Split } from "@tutti/client-sdk/examples";
import { openTrainer } from "@tutti/client-sdk/trainer";
import { seededRandom } from "@tutti/foundation/random";
import type { Claim } from "../claim.ts";
import { oneThread } from "../support/learn-engine.ts";
import { deviation, mean, rounded } from "../support/learn-figures.ts";
import { CENTRES, prepareHeart, type Recipe, readCentres, rowsOf } from "../support/learn-heart.ts";

const FOLDS = 10;
const GRID: readonly Recipe[] = (["site", "ranges"] as const).flatMap((scale) =>
  [0.01, 0.03, 0.1, 0.3].flatMap((learningRate) =>
    [5, 20].flatMap((steps) => [10, 30].map((rounds) => ({ scale, learningRate, steps, rounds }))),
  ),
);

type Tried = { readonly recipe: Recipe; readonly accuracy: number; readonly standardError: number };

export const claim: Claim = {
  name: "learn/heart-recipe",
  target:
    "The recipe of claims/learn/heart.yaml is what the one-standard-error rule picks from a grid of scale, " +
    `learning rate, steps and rounds, by ${FOLDS}-fold cross-validation inside the centres' training rows`,
  async run(report) {
    const centres = await readCentres();
    if (!centres) return { figures: { skipped: "../shared/data/heart is not there" }, holds: false };
    const training = CENTRES.map((centre) => trainingRows(centres[centre]));
    const folder = await mkdtemp(join(tmpdir(), "tutti-recipe-"));
    try {
      const { plan } = await prepareHeart(folder, { seed: 1 });
      const { optimiser, steps } = plan.train;
      const scale = plan.data?.normalise === "site" ? "site" : "ranges";
      const written: Recipe = { scale, learningRate: optimiser.learningRate, steps, rounds: plan.rounds };
      const tried: Tried[] = [];
      for (const recipe of GRID) {
        const accuracies = await crossValidated(training, folder, recipe);
        const standardError = rounded(deviation(accuracies) / Math.sqrt(FOLDS));
        tried.push({ recipe, accuracy: rounded(mean(accuracies)), standardError });
        report(JSON.stringify(tried.at(-1)));
      }
      const { best, picked } = pick(tried);
      const holds = JSON.stringify(picked.recipe) === JSON.stringify(written);
      return { figures: { tried: GRID.length, folds: FOLDS, best, picked, written }, holds };
    } finally {
      await rm(folder, { recursive: true, force: true });
    }
  },
};

/**
 * Of all that are within one standard error of the best, the one that trains least (Breiman et al. 1984,
 * section 3.4.3): from zeros, learning rate × steps × rounds bounds how far the weights get.
 */
function pick(tried: readonly Tried[]): { best: Tried; picked: Tried } {
  const best = tried.reduce((first, next) => (next.accuracy > first.accuracy ? next : first));
  const near = tried.filter(({ accuracy }) => accuracy >= best.accuracy - best.standardError);
  const way = ({ recipe }: Tried) => recipe.learningRate * recipe.steps * recipe.rounds;
  return { best, picked: near.reduce((first, next) => (way(next) < way(first) ? next : first)) };
}

/** A centre's training rows alone: the test rows are out of reach of everything below. */
function trainingRows({ columns, rows }: CsvTable): CsvTable {
  const split = columns.indexOf("split");
  return { columns, rows: rows.filter((row) => row[split] === "train") };
}

/** Accuracy by fold; each is left out at every centre at once, and draws batches of its own. */
async function crossValidated(
  training: readonly CsvTable[],
  folder: string,
  recipe: Recipe,
): Promise<readonly number[]> {
  const accuracies: number[] = [];
  for (let fold = 0; fold < FOLDS; fold++) {
    const prepared = await prepareHeart(folder, { seed: fold, recipe });
    const sites = training.map((table) => rowsOf(leaveOut(table, fold), prepared.plan));
    accuracies.push(await federatedAccuracy(prepared, sites));
  }
  return accuracies;
}

/** The same table with `split` saying which rows this fold leaves out. */
function leaveOut({ columns, rows }: CsvTable, fold: number): CsvTable {
  const split = columns.indexOf("split");
  const part = (at: number) => (at % FOLDS === fold ? "test" : "train");
  const shuffled = seededRandom("folds").shuffle(rows);
  return { columns, rows: shuffled.map((row, at) => row.with(split, part(at))) };
}

/**
 * The run without its protocol: each site trains, the weighted mean is the next model. Without quantisation
 * and masks, which a choice among recipes does not need.
 */
async function federatedAccuracy(
  { plan, base, initial }: Awaited<ReturnType<typeof prepareHeart>>,
  sites: readonly Split[],
): Promise<number> {
  const trainer = await openTrainer({ base, plan, engine: oneThread() });
  try {
    const first = [...readSafetensors(initial)].map(
      ([name, { data }]) => [name, data as Float32Array] as const,
    );
    let parameters: ReadonlyMap<string, Float32Array> = new Map(first);
    for (let round = 0; round < plan.rounds; round++) {
      const active = activeTensors(plan.adapter.method, round, plan.tensors);
      const updates = [];
      for (const [at, { train }] of sites.entries()) {
        const random = seededRandom(`${plan.seed}/${at}/${round}`);
        updates.push(
          await trainer.train({ parameters, active, examples: train, steps: plan.train.steps, random }),
        );
      }
      parameters = weightedMean(updates);
    }
    const scores = [];
    for (const { heldOut } of sites) scores.push(await trainer.evaluate({ parameters, examples: heldOut }));
    return sum(scores.map(({ correct }) => correct)) / sum(scores.map(({ examples }) => examples));
  } finally {
    await trainer.dispose();
  }
}

type Update = { readonly parameters: ReadonlyMap<string, Float32Array>; readonly examples: number };

function weightedMean(updates: readonly Update[]): ReadonlyMap<string, Float32Array> {
  const total = sum(updates.map(({ examples }) => examples));
  const tensors = [...updates[0]!.parameters].map(([name, like]) => {
    const value = like.map((_, i) =>
      sum(updates.map(({ parameters, examples }) => (parameters.get(name)![i]! * examples) / total)),
    );
    return [name, value] as const;
  });
  return new Map(tensors);
}

function sum(values: readonly number[]): number {
  return values.reduce((total, value) => total + value, 0);
}
