import { checkInvite } from "@tutti/client-sdk/check";
import { contribute } from "@tutti/client-sdk/contribute";
import type { DeviceEvent } from "@tutti/client-sdk/events";
import { type Site, trustOf } from "@tutti/client-sdk/site";
import type { Store } from "@tutti/client-sdk/store";
import type { Score, Trained } from "@tutti/client-sdk/trainer";
import type { Parameters } from "@tutti/client-sdk/vector";
import { openWorkshop, type Workshop } from "@tutti/client-sdk/workshop";
import { assert } from "@tutti/foundation/check";
import { flatten } from "@tutti/update/layout";
import type { Invite } from "@tutti/wire/round";

/** What one site really has for a round and tells nobody; the claim alone reads it. */
export type Truth = {
  readonly run: string;
  readonly round: number;
  /** The quantised vector: ring words. */
  readonly words: readonly number[];
  /** Float32 over the layout that travels: after training minus before. */
  readonly update: readonly number[];
  readonly trained: readonly number[];
  /** Rows trained on and held out, mean loss of each, and how many were answered right. */
  readonly rows: { readonly train: number; readonly heldOut: number };
  readonly loss: { readonly train: number; readonly heldOut: number };
  readonly correct: number;
};

type Seen = { before: Parameters | null; trained: Trained | null; score: Score | null };

/**
 * Does the site's part of a round once more, beside the device. Plan, site and round fix every random choice
 * (client-sdk/contribute), so these are the words that the device will mask; claims hold them to the sum.
 */
export async function truthOf(invite: Invite, site: Site, store: Store): Promise<Truth> {
  const stop = new AbortController();
  const apart: Site = { ...site, store, emit: (_event: DeviceEvent) => {} };
  const workshop = openWorkshop(apart, stop.signal);
  const seen: Seen = { before: null, trained: null, score: null };
  try {
    const work = checkInvite(invite, { trust: trustOf(site), policy: site.policy, newest: null });
    const contribution = await contribute(work, {
      device: site.identity.name,
      site,
      workshop: watchedWorkshop(workshop, seen),
      report: () => {},
      emit: apart.emit,
      clock: site.clock,
      signal: stop.signal,
    });
    const { layout } = contribution;
    const words = contribution.words(0);
    assert(words instanceof Uint32Array, "without noise a site's words are its rows' alone");
    assert(seen.score !== null && seen.before !== null, "every round evaluates first");
    const after = seen.trained ? flatten(layout, seen.trained.parameters) : new Float32Array(0);
    const before = flatten(layout, seen.before);
    return {
      run: work.task.run,
      round: work.task.round,
      words: [...words],
      update: [...after.map((value, at) => value - before[at]!)],
      trained: [...after],
      rows: { train: seen.trained?.examples ?? 0, heldOut: seen.score.examples },
      loss: { train: seen.trained?.loss ?? 0, heldOut: seen.score.lossSum / seen.score.examples },
      correct: seen.score.correct,
    };
  } finally {
    stop.abort();
    await workshop.close();
  }
}

/** The same workshop; what its trainer was given and gave is kept. */
function watchedWorkshop(workshop: Workshop, seen: Seen): Workshop {
  return {
    ...workshop,
    trainer: async (plan) => {
      const trainer = await workshop.trainer(plan);
      return {
        ...trainer,
        evaluate: async (options) => {
          seen.before = options.parameters;
          seen.score = await trainer.evaluate(options);
          return seen.score;
        },
        train: async (options) => {
          seen.trained = await trainer.train(options);
          return seen.trained;
        },
      };
    },
  };
}
