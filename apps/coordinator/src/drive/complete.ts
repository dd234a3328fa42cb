import { fromHex } from "@tutti/foundation/bytes";
import { assert } from "@tutti/foundation/check";
import type { Clock } from "@tutti/foundation/clock";
import { sha256Hex } from "@tutti/foundation/hash";
import type { SigningKey } from "@tutti/identity/keys";
import { releaseOf, signRelease } from "@tutti/release/manifest";
import { nextFiles, readSum } from "@tutti/round/result";
import type { Round } from "@tutti/round/round";
import { afterSuccess } from "@tutti/round/run";
import { type Summing, survivors } from "@tutti/round/summing";
import type { Papers } from "@tutti/round/words";
import type { Agree } from "@tutti/secagg/agree";
import type { Lift } from "@tutti/secagg/server/lift";
import { unmask } from "@tutti/secagg/server/session";
import type { Certificate } from "@tutti/wire/device";
import type { RunHeader } from "@tutti/wire/journal";
import type { SignedEnvelope } from "@tutti/wire/release";
import { Task_Kind } from "@tutti/wire/round";
import type { Artifacts } from "../artifacts.ts";
import { transcribe } from "./transcribe.ts";

export type SignedRelease = {
  readonly version: number;
  readonly digest: string;
  readonly envelope: SignedEnvelope;
};

/** From a round whose sum may be unmasked to the header that follows it, and its release if it trained. */
export type Complete = (
  round: Round,
  at: { header: RunHeader; sum: Uint32Array; papers: Papers },
) => Promise<{ header: RunHeader; release?: SignedRelease }>;

export type Publisher = {
  readonly artifacts: Artifacts;
  readonly key: SigningKey;
  readonly certificate: Certificate;
  readonly clock: Clock;
  readonly agree?: Agree;
  /** Takes masks off a sum elsewhere than on this thread. */
  readonly lift?: LiftElsewhere;
};

export type LiftElsewhere = (sum: Uint32Array, lifts: readonly Lift[]) => Promise<void>;

/** unmask → strategy → transcript → publish. Running it twice gives the same bytes: it may be resumed. */
export function completer(publisher: Publisher): Complete {
  const { artifacts } = publisher;
  // Storage may fail after a sum was unmasked; a second try of the same round goes on from there.
  const opened = new WeakMap<Round, Uint32Array>();
  const { agree, lift } = publisher;
  const options = { ...(agree && { agree }), ...(lift && { lift }) };
  return async (round, { header, sum, papers }) => {
    assert(round.sum !== null, "a complete round has a session");
    const { spec } = round;
    const cohort = survivors(round.sum);
    const plain = opened.get(round) ?? (await openSum(round.sum, sum, options));
    opened.set(round, plain);
    const { mean, record } = readSum(spec, plain, cohort.length);
    if (spec.task.kind === Task_Kind.EVALUATE) {
      record.transcript = (await transcribe(publisher, round, { papers, plain, states: NO_STATES })) ?? "";
      return { header: afterSuccess(spec.plan, header, { record, cohort }) };
    }
    const { adapter, held } = nextFiles(spec, {
      parent: await artifacts.read(header.adapter),
      mean,
      held: header.strategy ? await artifacts.read(header.strategy) : undefined,
    });
    const strategy = await artifacts.putBytes(held);
    const states = { before: fromHex(header.strategy), after: fromHex(strategy) };
    const transcript = await transcribe(publisher, round, { papers, plain, states });
    const release = await publish(publisher, { spec, header, adapter, cohort, transcript });
    record.release = release.digest;
    record.transcript = transcript ?? "";
    const next = { version: release.version, manifest: release.digest, adapter: release.adapter };
    return { header: afterSuccess(spec.plan, header, { record, cohort, release: next, strategy }), release };
  };
}

const NO_STATES = { before: new Uint8Array(), after: new Uint8Array() };

/** The plain sum. Where a large one is unmasked here, the event loop turns between two walks over it. */
async function openSum(
  of: Summing,
  sum: Uint32Array,
  options: { agree?: Agree; lift?: LiftElsewhere },
): Promise<Uint32Array> {
  if (of.kind === "plain") return sum;
  const pause = () => new Promise<void>((resolve) => setImmediate(resolve));
  return await unmask(of.session, sum, { pause, ...options });
}

async function publish(
  { artifacts, key, certificate, clock }: Publisher,
  made: {
    spec: Round["spec"];
    header: RunHeader;
    adapter: Uint8Array;
    cohort: readonly string[];
    transcript: string | null;
  },
): Promise<SignedRelease & { adapter: string }> {
  const { spec, header, adapter: bytes, cohort, transcript } = made;
  const { plan, task } = spec;
  const adapter = await artifacts.putBytes(bytes);
  const release = releaseOf(plan, {
    run: task.run,
    version: header.version + 1,
    round: task.round,
    adapter: { sha256: adapter, bytes: bytes.length },
    parent: header.manifest,
    cohorts: [cohort.length],
    transcript,
    wallMs: clock.wallMs(),
  });
  const envelope = signRelease(release, { key, certificate });
  return { version: release.version, digest: sha256Hex(envelope.payload), envelope, adapter };
}
