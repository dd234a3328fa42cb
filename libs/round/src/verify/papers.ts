import { fromUtf8, hex } from "@tutti/foundation/bytes";
import { Fault } from "@tutti/foundation/fault";
import type { Plan } from "@tutti/plan/plan";
import { envelopeFromJson, openEnvelope } from "@tutti/release/dsse";
import { type OpenedRelease, openRelease, type Release } from "@tutti/release/manifest";
import { openPlan } from "@tutti/release/plan";
import type { SignedEnvelope } from "@tutti/wire/release";
import { type Task, Task_Kind } from "@tutti/wire/round";
import type { CohortTranscript, Transcript } from "@tutti/wire/transcript";
import { decodeTranscript, TRANSCRIPT } from "../transcript.ts";
import { type Check, must, mustEqual, short, type Trust } from "./check.ts";
import { checkClaim } from "./privacy.ts";

/** How far ahead of the checker's clock a round may say it was. */
const CLOCK_SLACK_S = 300;

/** A transcript whose coordinator signed it, and the trust that the rest of it is checked under. */
export type OpenedTranscript = {
  readonly transcript: Transcript;
  readonly trust: Trust;
  readonly check: Check;
};

/**
 * The transcript in its file. Certificates count at the moment that the round says it checked them, so that
 * an old round can be checked after they expired; that moment alone is read before the signature is good.
 * @throws Fault("refused") for another signer, another signature or a round of the future.
 */
export function openTranscript(file: Uint8Array, trust: Trust): OpenedTranscript {
  const envelope = envelopeFromJson(fromUtf8(file, "transcript"));
  mustEqual("transcript, type", TRANSCRIPT, envelope.payloadType);
  const transcript = decodeTranscript(envelope.payload);
  const at = transcript.checkedAtS;
  must("transcript, time", at <= trust.nowS + CLOCK_SLACK_S, {
    expected: `at most ${date(trust.nowS)}`,
    got: date(at),
  });
  const then = { ...trust, nowS: at };
  const { signer } = openEnvelope(envelope, { ...then, payloadType: TRANSCRIPT, role: "coordinator" });
  const found = `signed by coordinator ${signer.name}; certificates as of ${date(at)}`;
  return { transcript, trust: then, check: { what: "transcript", found } };
}

/** What the round was asked to do: the owner's plan, the task, and the release that it started from. */
export type Asked = { readonly plan: Plan; readonly task: Task; readonly parent: OpenedRelease };

export function checkAsked(transcript: Transcript, trust: Trust): { asked: Asked; checks: Check[] } {
  const { plan, run } = openPlan(present("plan", transcript.plan), trust);
  const task = present("task", transcript.task);
  mustEqual("task, run", run, task.run);
  const kind = task.round < plan.rounds ? Task_Kind.TRAIN : Task_Kind.EVALUATE;
  must("task", task.round <= plan.rounds && task.kind === kind, {
    expected: `training before round ${plan.rounds}, evaluation at it`,
    got: `${Task_Kind[task.kind]} in round ${task.round}`,
  });
  const parent = openRelease(present("parent", transcript.parent), trust);
  mustEqual("parent, digest", hex(task.parent), parent.digest);
  mustEqual("parent, run", run, parent.release.run);
  mustEqual("parent, version", task.round, parent.release.version);
  mustEqual("parent, base model", plan.base.sha256, parent.release.base.sha256);
  checkClip(plan, task);
  const since = Math.floor(Date.parse(parent.release.createdAt) / 1000);
  must("transcript, time", transcript.checkedAtS >= since - CLOCK_SLACK_S, {
    expected: `after its parent's, ${date(since)}`,
    got: date(transcript.checkedAtS),
  });
  return {
    asked: { plan, task, parent },
    checks: [
      { what: "plan", found: `run ${short(run)}, ${plan.name}, signed by its owner` },
      {
        what: "task",
        found: `round ${task.round}, ${told(task)}, from version ${task.round} (${short(parent.digest)})`,
      },
    ],
  };
}

/** As each device checked it: a norm that adapts stays within the plan's, and otherwise there is none. */
function checkClip({ privacy, update }: Plan, { clipNorm }: Task): void {
  const adapts = privacy?.adaptiveClip !== undefined;
  const fine = adapts ? clipNorm > 0 && clipNorm <= update.clipNorm : clipNorm === 0;
  const expected = adapts ? `above 0, at most ${update.clipNorm}` : "none of the task's own";
  must("task, clip norm", fine, { expected, got: `${clipNorm}` });
}

/** What a manifest says of this round, against the round's own record. */
export function checkManifest(
  envelope: SignedEnvelope,
  about: {
    asked: Asked;
    /** Those that counted, and all that were opened. */
    cohorts: readonly CohortTranscript[];
    all: readonly CohortTranscript[];
    digest: string;
    trust: Trust;
  },
): { release: Release; check: Check } {
  const { asked, cohorts, all, digest, trust } = about;
  const { plan, task, parent } = asked;
  const { release } = openRelease(envelope, trust);
  const trains = task.kind === Task_Kind.TRAIN;
  must("manifest", trains, { expected: "none, the round only evaluates", got: `version ${release.version}` });
  // Of another round everything differs: which one it is says most.
  mustEqual("manifest, run", task.run, release.run);
  mustEqual("manifest, round", task.round, release.round);
  must("manifest, transcript", release.transcript === digest, {
    expected: `that of the manifest, ${release.transcript ?? "none"}`,
    got: digest,
  });
  mustEqual("manifest, version", task.round + 1, release.version);
  mustEqual("manifest, parent", parent.digest, release.parent ?? "none");
  mustEqual("manifest, base model", plan.base.sha256, release.base.sha256);
  mustEqual("manifest, secure aggregation", "true", `${release.secureAggregation}`);
  const sizes = cohorts.map(({ survivors }) => survivors.length);
  mustEqual("manifest, cohorts", sizes.join(" + "), release.cohorts.join(" + "));
  checkClaim(all, release, asked);
  const claims = `${sizes.join(" + ")} devices, the same privacy`;
  const found = `version ${release.version} names this transcript, ${claims}`;
  return { release, check: { what: "manifest", found } };
}

function told({ kind }: Task): string {
  return kind === Task_Kind.TRAIN ? "training" : "evaluation";
}

function present<T>(what: string, value: T | undefined): T {
  if (value !== undefined) return value;
  throw new Fault("bad-message", `transcript, ${what}`, { expected: "one", got: "none" });
}

function date(seconds: number): string {
  return new Date(seconds * 1000).toISOString().replace(".000Z", "Z");
}
