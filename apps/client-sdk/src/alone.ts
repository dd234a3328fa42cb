import { readTensors } from "@tutti/adapter/formats/safetensors";
import { merge } from "@tutti/adapter/merge";
import { activeTensors } from "@tutti/adapter/method";
import { seededRandom } from "@tutti/foundation/random";
import type { Engine } from "@tutti/graph/ir";
import type { Plan } from "@tutti/plan/plan";
import type { Examples } from "@tutti/train/batches";
import { openTrainer } from "./trainer.ts";

/** A run and the two files it names by hash. */
export type AloneRun = { readonly plan: Plan; readonly base: Uint8Array; readonly initial: Uint8Array };

export type AloneOptions = {
  readonly engine: Engine;
  /** Steps of a round; the plan's own unless told. */
  readonly steps?: number;
};

/**
 * The run's recipe without a federation, on one set of rows in one place: the same base, first adapter,
 * optimiser, rounds and factor in turn. On one site's rows it is what that site reaches alone, on all of them
 * central training, the ceiling. Gives the merged ONNX model.
 */
export async function trainAlone(
  { plan, base, initial }: AloneRun,
  examples: Examples,
  { engine, steps = plan.train.steps }: AloneOptions,
): Promise<Uint8Array> {
  const trainer = await openTrainer({ base, plan, engine });
  try {
    const random = seededRandom(`${plan.seed}/alone`);
    let parameters: ReadonlyMap<string, Float32Array> = readTensors(plan.tensors, initial);
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
