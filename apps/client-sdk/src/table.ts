import { demand } from "@tutti/foundation/check";
import { Fault } from "@tutti/foundation/fault";
import type { SeededRandom } from "@tutti/foundation/random";
import { float32, type Tensor } from "@tutti/graph/ir";
import type { Plan } from "@tutti/plan/plan";
import type { CsvTable } from "./csv.ts";
import { examplesFromArrays, type Split, subset } from "./examples.ts";

/** What to make of a table: the plan's `data` section, and where it does not say, how to hold rows out. */
export type TableOptions = {
  readonly data: NonNullable<Plan["data"]>;
  readonly loss: Plan["loss"];
  readonly holdout: number;
  readonly random: SeededRandom;
  /** The model's one float input. */
  readonly inputName: string;
};

/** `dropped` counts rows without a usable value in a column that is needed. */
export type TableRows = Split & { readonly dropped: number };

type Row = { readonly features: readonly number[]; readonly label: number; readonly part: string };

/**
 * A table as examples: features float32 [rows, columns]; label int64 [rows] for softmax cross-entropy, else
 * float32 [rows, 1]. Rows with a missing, unreadable or unknown value are dropped and counted, never
 * guessed.
 * @throws Fault("bad-input") for a column that is not there, or when nothing is left to train on.
 */
export function splitTable(table: CsvTable, options: TableOptions): TableRows {
  const { data } = options;
  const rows = readRows(table, options);
  const { train, heldOut } = partition(rows, options);
  const dropped = table.rows.length - rows.length;
  const got = `${table.rows.length} rows, ${dropped} of them unusable`;
  demand(train.length > 0, () => new Fault("bad-input", "table", { expected: "rows to train on", got }));
  const scaled = data.normalise === "site" ? normaliser(train) : (features: readonly number[]) => features;
  const examples = examplesOf([...train, ...heldOut], scaled, options);
  const numbers = (from: number, to: number) => Array.from({ length: to - from }, (_, at) => from + at);
  return {
    train: subset(examples, numbers(0, train.length)),
    heldOut: subset(examples, numbers(train.length, train.length + heldOut.length)),
    dropped,
  };
}

function readRows({ columns, rows }: CsvTable, { data, loss }: TableOptions): Row[] {
  demand(data.classes || loss !== "softmax-cross-entropy", () => {
    return new Fault("bad-input", "plan, field data.classes", {
      expected: "the label's values",
      got: "none",
    });
  });
  const at = (name: string) => {
    const index = columns.indexOf(name);
    demand(
      index >= 0,
      () =>
        new Fault("bad-input", `column ${name}`, { expected: "one of the table's", got: columns.join(", ") }),
    );
    return index;
  };
  const features = data.columns.map(at);
  const label = at(data.label);
  const part = data.split && at(data.split.column);
  return rows.flatMap((row) => {
    const read: Row = {
      features: features.map((column) => numberOf(row[column]!)),
      label: data.classes ? classOf(data.classes, row[label]!) : numberOf(row[label]!),
      part: part === undefined ? "" : row[part]!.trim(),
    };
    return [...read.features, read.label].every(Number.isFinite) ? [read] : [];
  });
}

/** By the split column: rows in neither part are left out. Without one, by the seed. */
function partition(
  rows: readonly Row[],
  { data, holdout, random }: TableOptions,
): { train: Row[]; heldOut: Row[] } {
  const { split } = data;
  if (split) {
    const part = (value: string) => rows.filter((row) => row.part === value);
    return { train: part(split.train), heldOut: part(split.test) };
  }
  const order = random.shuffle(rows);
  const held = Math.floor(rows.length * holdout);
  return { heldOut: order.slice(0, held), train: order.slice(held) };
}

/** (x − mean) / std with the training rows' own statistics (ddof 1); a constant column becomes 0. */
function normaliser(train: readonly Row[]): (features: readonly number[]) => readonly number[] {
  const width = train[0]?.features.length ?? 0;
  const columns = Array.from({ length: width }, (_, column) => {
    const values = train.map(({ features }) => features[column]!);
    const mean = values.reduce((sum, value) => sum + value, 0) / values.length;
    const squares = values.reduce((sum, value) => sum + (value - mean) ** 2, 0);
    const std = Math.sqrt(squares / Math.max(1, values.length - 1));
    return { mean, std: std > 0 ? std : 1 };
  });
  return (features) =>
    features.map((value, column) => (value - columns[column]!.mean) / columns[column]!.std);
}

function examplesOf(
  rows: readonly Row[],
  scaled: (features: readonly number[]) => readonly number[],
  { data, loss, inputName }: TableOptions,
) {
  const values = Float32Array.from(rows.flatMap(({ features }) => scaled(features)));
  const labels = rows.map(({ label }) => label);
  const label: Tensor =
    loss === "softmax-cross-entropy"
      ? { dtype: "int64", shape: [rows.length], data: BigInt64Array.from(labels, BigInt) }
      : float32([rows.length, 1], Float32Array.from(labels));
  return examplesFromArrays({
    inputs: { [inputName]: float32([rows.length, data.columns.length], values) },
    label,
  });
}

function numberOf(cell: string): number {
  const text = cell.trim();
  return text === "" ? Number.NaN : Number(text);
}

function classOf(classes: readonly string[], cell: string): number {
  const index = classes.indexOf(cell.trim());
  return index < 0 ? Number.NaN : index;
}
