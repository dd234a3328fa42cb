import { readTensors } from "@tutti/adapter/formats/safetensors";
import { contribute } from "@tutti/client-sdk/contribute";
import { openTrainer } from "@tutti/client-sdk/trainer";
import type { Workshop } from "@tutti/client-sdk/workshop";
import type { Plan } from "@tutti/plan/plan";
import { openRelease } from "@tutti/release/manifest";
import type { SignedEnvelope } from "@tutti/wire/release";
import type { Task } from "@tutti/wire/round";
import { AUTHORITY, secretOf, verify } from "../cast.ts";
import { POLICY } from "../device.ts";
import { WALL_START_MS } from "../life.ts";
import { BASE, engine, rowsOf } from "../recipe.ts";

const clock = {
  nowMs: () => 0,
  wallMs: () => WALL_START_MS,
  sleep: async () => {},
  turn: async () => {},
};

type Asked = {
  readonly plan: Plan;
  readonly task: Task;
  readonly manifest: SignedEnvelope;
  readonly adapter: Uint8Array;
};

/**
 * What a device's rows give in a round, by the SDK's own `contribute`: same plan, name, round and rows, same
 * words (apps/client-sdk/src/contribute.ts), also in a round so many later. Not under noise, which is another
 * in every session.
 */
export class Oracle {
  readonly #trainers = new Map<string, ReturnType<typeof openTrainer>>();

  async words(device: string, { plan, task, manifest, adapter }: Asked, late: number): Promise<Uint32Array> {
    const trust = { authority: AUTHORITY, nowS: WALL_START_MS / 1000, verify };
    const parent = openRelease(manifest, trust);
    const accepted = { plan, task, attempt: 0, parent, manifest };
    const contribution = await contribute(accepted, {
      device,
      site: {
        policy: POLICY,
        secret: secretOf("an oracle"),
        spending: { entries: () => [], add: () => {} },
      },
      workshop: this.#workshop(device, plan, adapter),
      report: () => {},
      emit: () => {},
      clock,
      signal: new AbortController().signal,
    });
    const words = contribution.words(late);
    if (!(words instanceof Uint32Array)) throw new Error("an oracle knows no noise");
    return words;
  }

  #workshop(device: string, plan: Plan, adapter: Uint8Array): Workshop {
    const key = JSON.stringify(plan);
    const trainer = this.#trainers.get(key) ?? openTrainer({ base: BASE, plan, engine });
    this.#trainers.set(key, trainer);
    const known: Pick<Workshop, "rows" | "trainer" | "adapter"> = {
      rows: async () => rowsOf(device, plan),
      trainer: () => trainer,
      adapter: async () => ({ parameters: readTensors(plan.tensors, adapter), bytes: adapter }),
    };
    return known as Workshop;
  }
}
