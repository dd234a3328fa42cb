import { assert, demand } from "@tutti/foundation/check";
import { Fault } from "@tutti/foundation/fault";
import type { SeededRandom } from "@tutti/foundation/random";
import { sizeOf, type Tensor, type TensorData, type Tensors, type ValueInfo } from "@tutti/graph/ir";
import type { Plan } from "@tutti/plan/plan";
import type { Examples } from "@tutti/train/batches";

/** A site's rows for one run: `heldOut` is never trained on. */
export type Split = {
  readonly train: Examples;
  readonly heldOut: Examples;
  /** Hex SHA-256 of the file that they came from, for the audit log: which version of the data was used. */
  readonly digest?: string;
};

/** For whom rows are wanted: this device, and the inputs of the base model. */
export type About = { readonly device: string; readonly inputs: readonly ValueInfo[] };

/**
 * Rows that are the same for every run, or a function that finds them for a plan, in the policy's data
 * folder.
 */
export type Data = Examples | ((plan: Plan, folder: string, about: About) => Split | Promise<Split>);

/**
 * Examples over tensors held in memory. Every tensor, `label` included, has one row per example as its first
 * dimension; `take` copies the rows asked for. @throws Fault("bad-input") when the row counts differ.
 */
export function examplesFromArrays(tensors: {
  readonly inputs: Readonly<Record<string, Tensor>>;
  readonly label: Tensor;
}): Examples {
  const named = Object.entries({ ...tensors.inputs, label: tensors.label });
  const count = tensors.label.shape[0] ?? 0;
  for (const [name, { shape, data }] of named) {
    const got = `shape [${shape}] over ${data.length} values`;
    const fits = shape[0] === count && sizeOf(shape) === data.length;
    demand(
      fits,
      () => new Fault("bad-input", `examples, ${name}`, { expected: `${count} rows, as label`, got }),
    );
  }
  return {
    count,
    take: (rows): Tensors => new Map(named.map(([name, tensor]) => [name, takeRows(tensor, rows)])),
  };
}

/** Splits rows into training and held-out ones; the same random stream splits the same way. */
export function splitExamples(examples: Examples, holdout: number, random: SeededRandom): Split {
  const order = random.shuffle(Array.from({ length: examples.count }, (_, row) => row));
  const held = Math.floor(examples.count * holdout);
  return { heldOut: subset(examples, order.slice(0, held)), train: subset(examples, order.slice(held)) };
}

/** The given rows of `examples` as examples of their own. */
export function subset(examples: Examples, rows: readonly number[]): Examples {
  const own = (row: number): number => {
    const there = rows[row];
    assert(there !== undefined, `row ${row} of ${rows.length}`);
    return there;
  };
  return { count: rows.length, take: (wanted) => examples.take(wanted.map(own)) };
}

function takeRows({ dtype, shape, data }: Tensor, rows: readonly number[]): Tensor {
  const width = sizeOf(shape.slice(1));
  const taken = { dtype, shape: [rows.length, ...shape.slice(1)] };
  if (isStrings(data))
    return { ...taken, data: rows.flatMap((row) => data.slice(row * width, (row + 1) * width)) };
  // Same constructor, so an int64 stays a BigInt64Array; `set` and `subarray` then agree in element type.
  const out = data.slice(0, 0).constructor as new (length: number) => typeof data;
  const copy = new out(rows.length * width);
  rows.forEach((row, at) => {
    (copy as Float32Array).set(data.subarray(row * width, (row + 1) * width) as Float32Array, at * width);
  });
  return { ...taken, data: copy };
}

function isStrings(data: TensorData): data is readonly string[] {
  return Array.isArray(data);
}
