import { fromHex } from "@tutti/foundation/bytes";
import type { Clock } from "@tutti/foundation/clock";
import { Fault } from "@tutti/foundation/fault";
import { sha256Hex } from "@tutti/foundation/hash";
import type { SigningKey } from "@tutti/identity/keys";
import { epsilonOfRho } from "@tutti/privacy/accountant";
import { releaseOf, signRelease } from "@tutti/release/manifest";
import { owedAfter } from "@tutti/round/excuse";
import { clipOf } from "@tutti/round/privacy";
import { combineResults, nextClipNorm, nextFiles, recordOf } from "@tutti/round/result";
import type { Round } from "@tutti/round/round";
import { afterSuccess } from "@tutti/round/run";
import type { Papers } from "@tutti/round/words";
import type { RoundRecord } from "@tutti/wire/admin";
import type { Certificate } from "@tutti/wire/device";
import type { RunHeader } from "@tutti/wire/journal";
import type { SignedEnvelope } from "@tutti/wire/release";
import { Task_Kind } from "@tutti/wire/round";
import { failpoint } from "../failpoint.ts";
import type { Log } from "../observe/log.ts";
import { inTime, type Storing } from "./in-time.ts";
import { dearestRho, isCounted, openCohorts, recordOfCohort, type Unmasking } from "./open.ts";
import { transcribe } from "./transcribe.ts";
import type { Sums } from "./waiting.ts";

export type SignedRelease = {
  readonly version: number;
  readonly digest: string;
  readonly envelope: SignedEnvelope;
};

/** From a round whose sum may be unmasked to the header that follows it, and its release if it trained. */
export type Complete = (
  round: Round,
  at: { header: RunHeader; sums: Sums; papers: Papers },
) => Promise<{ header: RunHeader; release?: SignedRelease }>;

export type Publisher = Omit<Unmasking, "onLiar" | "pause"> & {
  readonly artifacts: Storing;
  readonly key: SigningKey;
  readonly certificate: Certificate;
  readonly clock: Clock;
  /** Told of who lied. */
  readonly log: Log;
};

/** unmask → combine → strategy → transcript → publish. It may be done again, after a crash too. */
export function completer(publisher: Publisher): Complete {
  const { agree, lift, log, clock } = publisher;
  // Storage may fail after a sum was unmasked; a second try of the same round goes on from there, in the time
  // that is left.
  const kept = new WeakMap<Round, { opened: Map<number, Uint32Array>; artifacts: Storing }>();
  return async (round, { header, sums, papers }) => {
    const { spec } = round;
    const onLiar = (liar: string, of: string) =>
      log.say("share.false", { doing: "unmasking", device: liar }, falseShare(liar, of));
    const pause = () => clock.turn();
    const unmasking = { pause, ...(agree && { agree }), ...(lift && { lift }), onLiar };
    const ours = kept.get(round) ?? { opened: new Map(), artifacts: inTime(publisher.artifacts, clock) };
    kept.set(round, ours);
    const { opened, artifacts } = ours;
    const publishing = { ...publisher, artifacts };
    failpoint("complete.begin");
    const outcomes = await openCohorts(round, { sums, opened, unmasking });
    failpoint("complete.opened");
    const counted = outcomes.filter(isCounted);
    const results = counted.map(({ result }) => result);
    const record = recordOf(spec, results);
    record.cohorts = outcomes.map(recordOfCohort);
    const rho = dearestRho(outcomes);
    const spent = spentByRun(spec, header, rho);
    if (spent) Object.assign(record, { rho, epsilon: spent.epsilon });
    const cohort = counted.flatMap(({ devices }) => devices).sort();
    const owed = owedAfter(round);
    if (spec.task.kind === Task_Kind.EVALUATE) {
      record.transcript = await transcribe(publishing, round, { papers, outcomes, states: NO_STATES });
      return { header: afterSuccess(spec.plan, header, { record, cohort, owed }) };
    }
    const { adapter, held } = nextFiles(spec, {
      parent: await artifacts.read(header.adapter),
      mean: combineResults(spec, results),
      held: header.strategy ? await artifacts.read(header.strategy) : undefined,
    });
    failpoint("complete.stepped");
    const strategy = await artifacts.putBytes(held);
    failpoint("complete.state");
    const states = { before: fromHex(header.strategy), after: fromHex(strategy) };
    record.transcript = await transcribe(publishing, round, { papers, outcomes, states });
    failpoint("complete.transcript");
    const sizes = counted.map(({ devices }) => devices.length);
    const release = await publish(publishing, { spec, header, adapter, sizes, record, spent });
    failpoint("complete.signed");
    record.release = release.digest;
    const next = { version: release.version, manifest: release.digest, adapter: release.adapter };
    const clipNorm = nextClipNorm(results);
    const outcome = { record, cohort, owed, release: next, strategy, clipNorm };
    return { header: afterSuccess(spec.plan, header, outcome), release };
  };
}

/** What the run has cost a device that was in each round, this one included; absent without noise. */
function spentByRun({ plan, task }: Round["spec"], header: RunHeader, rho: number) {
  if (!plan.privacy) return undefined;
  const whole = header.rho + rho;
  return { clipNorm: clipOf(plan, task), rho: whole, epsilon: epsilonOfRho(whole, plan.privacy.delta) };
}

const NO_STATES = { before: new Uint8Array(), after: new Uint8Array() };

async function publish(
  { artifacts, key, certificate, clock }: Publisher,
  made: {
    spec: Round["spec"];
    header: RunHeader;
    adapter: Uint8Array;
    sizes: readonly number[];
    record: RoundRecord;
    spent: ReturnType<typeof spentByRun>;
  },
): Promise<SignedRelease & { adapter: string }> {
  const { spec, header, adapter: bytes, sizes, record, spent } = made;
  const { plan, task } = spec;
  const adapter = await artifacts.putBytes(bytes);
  failpoint("complete.adapter");
  const release = releaseOf(plan, {
    run: task.run,
    version: header.version + 1,
    round: task.round,
    adapter: { sha256: adapter, bytes: bytes.length },
    parent: header.manifest,
    cohorts: sizes,
    transcript: record.transcript || null,
    ...(spent && { spent }),
    wallMs: clock.wallMs(),
  });
  const envelope = signRelease(release, { key, certificate });
  return { version: release.version, digest: sha256Hex(envelope.payload), envelope, adapter };
}

/** A share that fits nothing, with who revealed it: the sum did without it. */
function falseShare(liar: string, of: string): Fault {
  const expected = `one that fits what ${of} published`;
  return new Fault("refused", `share of ${of} revealed by ${liar}`, { expected, got: "another" });
}
