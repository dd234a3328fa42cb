import { readTensors, writeTensors } from "@tutti/adapter/formats/safetensors";
import { assert } from "@tutti/foundation/check";
import type { Clock } from "@tutti/foundation/clock";
import { sha256Hex } from "@tutti/foundation/hash";
import type { SigningKey } from "@tutti/identity/keys";
import type { Plan } from "@tutti/plan/plan";
import { releaseOf, signRelease } from "@tutti/release/manifest";
import { nextAdapter, readSum } from "@tutti/round/result";
import type { Round } from "@tutti/round/round";
import { afterSuccess } from "@tutti/round/run";
import { type Summing, survivors } from "@tutti/round/summing";
import type { Agree } from "@tutti/secagg/agree";
import { unmask } from "@tutti/secagg/server/session";
import { flatten, layoutOf, unflatten } from "@tutti/update/layout";
import type { Certificate } from "@tutti/wire/device";
import type { RunHeader } from "@tutti/wire/journal";
import type { SignedEnvelope } from "@tutti/wire/release";
import { Task_Kind } from "@tutti/wire/round";
import type { Artifacts } from "../artifacts.ts";

export type SignedRelease = {
  readonly version: number;
  readonly digest: string;
  readonly envelope: SignedEnvelope;
};

/** From a round whose sum may be unmasked to the header that follows it, and its release if it trained. */
export type Complete = (
  round: Round,
  at: { header: RunHeader; sum: Uint32Array },
) => Promise<{ header: RunHeader; release?: SignedRelease }>;

export type Publisher = {
  readonly artifacts: Artifacts;
  readonly key: SigningKey;
  readonly certificate: Certificate;
  readonly clock: Clock;
  readonly agree?: Agree;
};

/** unmask → strategy → adapter → publish. Running it twice gives the same adapter: it may be resumed. */
export function completer(publisher: Publisher): Complete {
  // Storage may fail after a sum was unmasked; a second try of the same round goes on from there.
  const opened = new WeakMap<Round, Uint32Array>();
  return async (round, { header, sum }) => {
    assert(round.sum !== null, "a complete round has a session");
    const { spec } = round;
    const cohort = survivors(round.sum);
    const plain = opened.get(round) ?? (await openSum(round.sum, sum, publisher.agree));
    opened.set(round, plain);
    const { mean, record } = readSum(spec, plain, cohort.length);
    if (spec.task.kind === Task_Kind.EVALUATE)
      return { header: afterSuccess(spec.plan, header, { record, cohort }) };
    const { parameters, held } = nextAdapter(spec, {
      parameters: await loadAdapter(publisher.artifacts, spec.plan, header.adapter),
      mean,
      held: header.strategy ? await publisher.artifacts.read(header.strategy) : undefined,
    });
    const strategy = await publisher.artifacts.putBytes(held);
    const release = await publish(publisher, { spec: round.spec, header, parameters, cohort });
    record.release = release.digest;
    const next = { version: release.version, manifest: release.digest, adapter: release.adapter };
    return { header: afterSuccess(spec.plan, header, { record, cohort, release: next, strategy }), release };
  };
}

/** The plain sum. A large one takes minutes: the event loop turns between two mask streams. */
async function openSum(of: Summing, sum: Uint32Array, agree: Agree | undefined): Promise<Uint32Array> {
  if (of.kind === "plain") return sum;
  const pause = () => new Promise<void>((resolve) => setImmediate(resolve));
  return await unmask(of.session, sum, { pause, ...(agree && { agree }) });
}

async function loadAdapter(artifacts: Artifacts, plan: Plan, sha256: string): Promise<Float32Array> {
  return flatten(layoutOf(plan.tensors), readTensors(plan.tensors, await artifacts.read(sha256)));
}

async function publish(
  { artifacts, key, certificate, clock }: Publisher,
  made: { spec: Round["spec"]; header: RunHeader; parameters: Float32Array; cohort: readonly string[] },
): Promise<SignedRelease & { adapter: string }> {
  const { spec, header, parameters, cohort } = made;
  const { plan, task } = spec;
  const bytes = writeTensors(plan.tensors, unflatten(layoutOf(plan.tensors), parameters));
  const adapter = await artifacts.putBytes(bytes);
  const release = releaseOf(plan, {
    run: task.run,
    version: header.version + 1,
    round: task.round,
    adapter: { sha256: adapter, bytes: bytes.length },
    parent: header.manifest,
    cohorts: [cohort.length],
    wallMs: clock.wallMs(),
  });
  const envelope = signRelease(release, { key, certificate });
  return { version: release.version, digest: sha256Hex(envelope.payload), envelope, adapter };
}
