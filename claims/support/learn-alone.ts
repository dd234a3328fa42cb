import { merge } from "@tutti/adapter/merge";
import { activeTensors } from "@tutti/adapter/method";
import { readSafetensors } from "@tutti/adapter/safetensors";
import { onnxruntimeNode } from "@tutti/client-sdk/node/runtime";
import { openTrainer } from "@tutti/client-sdk/trainer";
import { seededRandom } from "@tutti/foundation/random";
import type { Engine, Tensor } from "@tutti/graph/ir";
import type { Examples } from "@tutti/train/batches";
import type { PreparedRun } from "tutti/prepare";

/** Where training without a federation differs from a run: how many passes over its rows it takes. */
export type AloneOptions = {
  readonly engine: Engine;
  /** Steps of a round; the plan's own unless told. */
  readonly steps?: number;
};

/**
 * The run's recipe on one set of rows in one place: the same base, first adapter, optimiser, rounds and
 * factor in turn. On one site's rows it is what that site reaches alone, on all of them central training.
 */
export async function trainAlone(
  { plan, base, initial }: PreparedRun,
  examples: Examples,
  { engine, steps = plan.train.steps }: AloneOptions,
): Promise<Uint8Array> {
  const trainer = await openTrainer({ base, plan, engine });
  try {
    const random = seededRandom(`${plan.seed}/alone`);
    const first = [...readSafetensors(initial)].map(
      ([name, { data }]) => [name, data as Float32Array] as const,
    );
    let parameters: ReadonlyMap<string, Float32Array> = new Map(first);
    for (let round = 0; round < plan.rounds; round++) {
      const active = activeTensors(plan.adapter.method, round, plan.tensors);
      const at = { parameters, active, examples, steps, random: random.fork(`${round}`) };
      ({ parameters } = await trainer.train(at));
    }
    return merge(base, trainer.adapter, parameters);
  } finally {
    await trainer.dispose();
  }
}

/** Right answers over rows, with the plain ONNX file in onnxruntime: no code of training has a say. */
export async function rightOf(
  model: Uint8Array,
  examples: Examples,
  isRight: (output: Tensor, label: Tensor, row: number) => boolean,
): Promise<number> {
  const running = await onnxruntimeNode().open(model);
  try {
    const taken = await examples.take(Array.from({ length: examples.count }, (_, row) => row));
    const label = taken.get("label")!;
    const outputs = await running.run(new Map([...taken].filter(([name]) => name !== "label")));
    const [output] = outputs.values();
    return Array.from({ length: examples.count }, (_, row) => isRight(output!, label, row)).filter(Boolean)
      .length;
  } finally {
    await running.release();
  }
}

/** Examples one after another as one: what central training sees. */
export function joined(parts: readonly Examples[]): Examples {
  const places = parts.flatMap((part, at) => Array.from({ length: part.count }, (_, row) => ({ at, row })));
  return {
    count: places.length,
    take: async (rows) => {
      const single = await Promise.all(rows.map((row) => parts[places[row]!.at]!.take([places[row]!.row])));
      return new Map(
        [...single[0]!.keys()].map((name) => [name, stacked(single.map((one) => one.get(name)!))]),
      );
    },
  };
}

function stacked(rows: readonly Tensor[]): Tensor {
  const { dtype, shape, data } = rows[0]!;
  const made = data.constructor as new (values: Iterable<number | bigint>) => Float32Array;
  const values = rows.flatMap((row) => [...(row.data as Iterable<number | bigint>)]);
  return { dtype, shape: [rows.length, ...shape.slice(1)], data: new made(values) };
}
