import { readFile, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { type CsvTable, parseCsv } from "@tutti/client-sdk/csv";
import type { Split } from "@tutti/client-sdk/examples";
import { splitTable } from "@tutti/client-sdk/table";
import { seededRandom } from "@tutti/foundation/random";
import { float32 } from "@tutti/graph/ir";
import { mlp } from "@tutti/graph/make/mlp";
import { write } from "@tutti/graph/write";
import type { Plan } from "@tutti/plan/plan";
import { type PreparedRun, prepareRun } from "tutti/prepare";

/** The four hospitals in the order FLamby numbers them (arXiv 2210.04620, section 3). */
export const CENTRES = ["cleveland", "hungary", "switzerland", "longbeach"] as const;
export type Centre = (typeof CENTRES)[number];

const FILE = new URL("../../../shared/data/heart/fed_heart_flamby.csv", import.meta.url);
const INPUT = "features";

/**
 * Each centre's own table, with FLamby's train and test rows in a column `split`; null where there is no
 * data.
 */
export async function readCentres(): Promise<Readonly<Record<Centre, CsvTable>> | null> {
  const text = await readFile(FILE, "utf8").catch(() => null);
  if (text === null) return null;
  const { columns, rows } = parseCsv(text, "fed_heart_flamby.csv");
  const [centre, set] = [columns.indexOf("center"), columns.indexOf("set")];
  const named = columns.with(set, "split");
  const at = (number: number): CsvTable => ({
    columns: named,
    rows: rows.filter((row) => row[centre] === `${number}`),
  });
  return { cleveland: at(0), hungary: at(1), switzerland: at(2), longbeach: at(3) };
}

export function csvText({ columns, rows }: CsvTable): string {
  return `${[columns, ...rows].map((row) => row.join(",")).join("\n")}\n`;
}

/** A centre's rows as its device reads them: normalised by its own training rows. */
export function rowsOf(table: CsvTable, { data, loss }: Pick<Plan, "data" | "loss">): Split {
  // The table says what is held out, so neither share nor chance has a say.
  const nothing = { holdout: 0, random: seededRandom("unused") };
  return splitTable(table, { data: data!, loss, inputName: INPUT, ...nothing });
}

/**
 * What the cross-validation chooses among; everything else stands in heart.yaml. `scale` is how a feature
 * reaches the regression: by each site's own mean and deviation, or by fixed clinical ranges that are part of
 * the base model.
 */
export type Recipe = {
  readonly scale: "site" | "ranges";
  readonly learningRate: number;
  readonly steps: number;
  readonly rounds: number;
};

const RUN_FILE = fileURLToPath(new URL("../learn/heart.yaml", import.meta.url));

/** Column, then what a textbook would call low and high (not what the rows do); indicators are 0 or 1. */
const RANGES: readonly (readonly [string, number, number])[] = [
  ["age, years", 20, 80],
  ["sex", 0, 1],
  ["resting blood pressure, mmHg", 80, 200],
  ["cholesterol, mg/dl", 100, 400],
  ["fasting blood sugar", 0, 1],
  ["maximum heart rate, per minute", 60, 200],
  ["angina on exercise", 0, 1],
  ["ST depression, mm", -2, 6],
  ...["pain 2", "pain 3", "pain 4", "ECG 1", "ECG 2"].map((name) => [name, 0, 1] as const),
];
/** From low … high to −1 … 1. */
const CLINICAL = {
  mean: RANGES.map(([, low, high]) => (low + high) / 2),
  std: RANGES.map(([, low, high]) => (high - low) / 2),
};

/**
 * The run of heart.yaml for a seed, which draws the batches. The base, made in `folder`, is a logistic
 * regression that knows nothing: all zeros, so that training that stops early is shrinkage towards zero.
 */
export async function prepareHeart(
  folder: string,
  { seed, recipe }: { seed: number; recipe?: Recipe },
): Promise<PreparedRun> {
  const random = seededRandom("weights that are overwritten");
  const shape = { inputs: RANGES.length, hidden: [], outputs: 1, inputName: INPUT, outputName: "logit" };
  const graph = mlp({ ...shape, random, ...(recipe?.scale === "site" ? {} : { normalise: CLINICAL }) });
  const trained = [...graph.initializers].filter(([name]) => /\.(weight|bias)$/.test(name));
  const zeros = trained.map(
    ([name, { shape, data }]) => [name, float32(shape, new Float32Array(data.length))] as const,
  );
  const base = join(folder, "base.onnx");
  await writeFile(base, write({ ...graph, initializers: new Map([...graph.initializers, ...zeros]) }));
  const prepared = await prepareRun(RUN_FILE, { base, seed });
  return recipe ? { ...prepared, plan: withRecipe(prepared.plan, recipe) } : prepared;
}

function withRecipe(plan: Plan, { scale, learningRate, steps, rounds }: Recipe): Plan {
  const optimiser = { ...plan.train.optimiser, learningRate };
  const data = { ...plan.data!, normalise: scale === "site" ? ("site" as const) : ("none" as const) };
  return { ...plan, data, train: { ...plan.train, optimiser, steps }, rounds };
}
