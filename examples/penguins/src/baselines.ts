import { merge } from "@tutti/adapter/merge";
import { activeTensors } from "@tutti/adapter/method";
import { readTensors } from "@tutti/adapter/safetensors";
import { openTrainer } from "@tutti/client-sdk/trainer";
import { seededRandom } from "@tutti/foundation/random";
import type { Engine } from "@tutti/graph/ir";
import type { PreparedRun } from "tutti/prepare";
import type { Bird } from "./birds.ts";
import { examplesOf } from "./examples.ts";

/**
 * The same recipe without a federation: the run's rounds × steps on one set of birds, in one place, from the
 * same first adapter. On one island's birds it is what that site reaches alone; on all of them, the ceiling.
 */
export async function trainAlone(
  prepared: PreparedRun,
  birds: readonly Bird[],
  engine: Engine,
): Promise<Uint8Array> {
  const { plan, base, initial } = prepared;
  const trainer = await openTrainer({ base, plan, engine });
  try {
    const random = seededRandom(`${plan.seed}/alone`);
    let parameters: ReadonlyMap<string, Float32Array> = readTensors(plan.tensors, initial);
    for (let round = 0; round < plan.rounds; round++) {
      const active = activeTensors(plan.adapter.method, round, plan.tensors);
      const { steps } = plan.train;
      const trained = await trainer.train({
        parameters,
        active,
        examples: examplesOf(birds),
        steps,
        random: random.fork(`${round}`),
      });
      parameters = trained.parameters;
    }
    return merge(base, trainer.adapter, parameters);
  } finally {
    await trainer.dispose();
  }
}
