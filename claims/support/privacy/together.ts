import { readTensors } from "@tutti/adapter/formats/safetensors";
import type { ResolvedAdapter } from "@tutti/adapter/spec";
import type { Accepted } from "@tutti/client-sdk/check";
import { contribute } from "@tutti/client-sdk/contribute";
import { defaultPolicy, type PrivacyPolicy } from "@tutti/client-sdk/policy";
import { memorySpending } from "@tutti/client-sdk/private";
import { openTrainer, type Trainer } from "@tutti/client-sdk/trainer";
import type { Parameters as Tensors } from "@tutti/client-sdk/vector";
import type { Workshop } from "@tutti/client-sdk/workshop";
import { systemClock } from "@tutti/foundation/clock";
import { platformRandom } from "@tutti/foundation/random";
import { addInto } from "@tutti/kernels/ring";
import type { Plan } from "@tutti/plan/plan";
import { gridOfSum, priceOf, sizeOf } from "@tutti/round/privacy";
import { nextAdapter, readSum } from "@tutti/round/result";
import { activeLayout, termsOf } from "@tutti/round/spec";
import type { Group, Party } from "@tutti/secagg/group";
import { thresholdFor } from "@tutti/secagg/threshold";
import type { Examples } from "@tutti/train/batches";
import { flatten, layoutOf, unflatten } from "@tutti/update/layout";
import { create } from "@tutti/wire/message";
import { Task_Kind, TaskSchema } from "@tutti/wire/round";
import type { PreparedRun } from "tutti/prepare";
import { oneThread } from "../learn-engine.ts";

export type Outcome = {
  readonly adapter: ResolvedAdapter;
  readonly parameters: Tensors;
  /**
   * ρ of all sums: by who was in them, as a release claims, and as a device counts ahead of them. The last
   * one, which only evaluates, is counted though it is not made: these devices hold no rows out.
   */
  readonly claimedRho: number;
  readonly countedRho: number;
  /** Numbers that travel in a round, metrics aside. */
  readonly coordinates: number;
};

const RUN = "accuracy";
const NOBODY = { release: { adapter: null } } as unknown as Accepted["parent"];

/**
 * The training rounds of a run in one process: each device's own `contribute` under a site's own budget, its
 * words added in the ring, the coordinator's own reading of the sum and its step. What is left out are the
 * wire and the masks, of which a sum keeps nothing (claim secagg/exact).
 */
export async function trainTogether(
  { plan, base, initial }: PreparedRun,
  devices: readonly Examples[],
  budget: PrivacyPolicy | null,
): Promise<Outcome> {
  const trainer = await openTrainer({ base, plan, engine: oneThread() });
  const group = groupOf(devices.length);
  const layout = layoutOf(plan.tensors);
  let model = readTensors(plan.tensors, initial) as Tensors;
  const own = { trainer, budget, model: () => model };
  const crew = devices.map((rows, at) => member(`device-${at}`, { rows, ...own }));
  let held: Uint8Array | undefined;
  let claimedRho = 0;
  try {
    for (let round = 0; round < plan.rounds; round++) {
      const work = workOf(plan, { round, kind: Task_Kind.TRAIN });
      const sum = new Uint32Array(termsOf(work).length);
      for (const by of crew) {
        const words = (await contribute(work, by)).words(0);
        addInto(sum, typeof words === "function" ? words(group) : words);
      }
      const { mean } = readSum(work, sum, { devices: devices.length, size: sizeOf(group) });
      claimedRho += priceIn(work, group, devices.length);
      const next = nextAdapter(work, { parameters: flatten(layout, model), mean, held });
      held = next.held;
      model = unflatten(layout, next.parameters);
    }
  } finally {
    await trainer.dispose();
  }
  const last = workOf(plan, { round: plan.rounds, kind: Task_Kind.EVALUATE });
  const uploads = crew[0]!.site.spending.entries().reduce((sum, { rho }) => sum + rho, 0);
  return {
    adapter: trainer.adapter,
    parameters: model,
    claimedRho: claimedRho + priceIn(last, group, devices.length),
    countedRho: uploads + priceIn(last, group, group.least),
    coordinates: activeLayout(workOf(plan, { round: 0, kind: Task_Kind.TRAIN })).length,
  };
}

/** Nobody is invited here, so that an invitation proves nothing: `contribute` trusts the door before it. */
type Work = Accepted & { readonly expected: ReadonlySet<string> };

function workOf(plan: Plan, of: { round: number; kind: Task_Kind }): Work {
  const task = create(TaskSchema, { run: RUN, ...of });
  const manifest = {} as Accepted["manifest"];
  return { plan, task, attempt: 0, parent: NOBODY, manifest, expected: new Set() };
}

/** All that noise wants to know of a session: its members, and the fewest that it may end with. */
function groupOf(members: number): Group {
  const parties = new Map(Array.from({ length: members }, (_, at) => [`device-${at}`, {} as Party]));
  return { parties, least: thresholdFor(members) } as Partial<Group> as Group;
}

type Own = {
  readonly rows: Examples;
  readonly trainer: Trainer;
  readonly budget: PrivacyPolicy | null;
  readonly model: () => Tensors;
};
type Member = Parameters<typeof contribute>[1];

function member(device: string, { rows, trainer, budget, model }: Own): Member {
  const workshop: Pick<Workshop, "rows" | "trainer" | "adapter"> = {
    rows: async () => ({ train: rows, heldOut: { count: 0, take: () => new Map() } }),
    trainer: async () => trainer,
    adapter: async () => ({ parameters: model(), bytes: new Uint8Array() }),
  };
  const policy = { ...defaultPolicy([]), privacy: budget };
  const site = { policy, secret: platformRandom(), spending: memorySpending() };
  const { signal } = new AbortController();
  const quiet = { report: () => {}, emit: () => {}, clock: systemClock(), signal };
  return { device, site, workshop: workshop as Workshop, ...quiet };
}

/** ρ of a sum with so many survivors; 0 where there is no noise and so no count. */
function priceIn(work: Work, group: Group, survivors: number): number {
  const { privacy } = work.plan;
  return privacy ? priceOf(gridOfSum(work, privacy, sizeOf(group)), survivors).rho : 0;
}
