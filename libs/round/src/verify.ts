import { fromUtf8, hex } from "@tutti/foundation/bytes";
import { Fault } from "@tutti/foundation/fault";
import { sha256Hex } from "@tutti/foundation/hash";
import { fewestDealt } from "@tutti/plan/cohort";
import type { Plan } from "@tutti/plan/plan";
import { envelopeFromJson } from "@tutti/release/envelope-json";
import { checkArtifact, type OpenedRelease, type Release } from "@tutti/release/manifest";
import { checkDistinct, type Party } from "@tutti/secagg/group";
import type { RoundRecord } from "@tutti/wire/admin";
import type { SignedEnvelope } from "@tutti/wire/release";
import { type Task, Task_Kind } from "@tutti/wire/round";
import type { Transcript } from "@tutti/wire/transcript";
import { fewestCounted } from "./cohorts.ts";
import { decodeTranscript } from "./transcript.ts";
import { type Check, must, mustEqual, short, type Trust } from "./verify/check.ts";
import { checkCohort } from "./verify/cohort.ts";
import { type Asked, checkAsked, checkManifest, openTranscript } from "./verify/papers.ts";
import {
  type Checked,
  checkStates,
  hasState,
  type Opened,
  openedOf,
  openSum,
  replay,
} from "./verify/replay.ts";

export type { Check } from "./verify/check.ts";

/**
 * What a third party has: a round's transcript and a key to trust; the more of the rest, the more is checked.
 * What cannot be without another is among `Verified.unchecked` where that is not given.
 */
export type Given = Trust & {
  /** The transcript's file. */
  readonly transcript: Uint8Array;
  /** The signed manifest of the release that the round made. */
  readonly manifest?: SignedEnvelope | undefined;
  /** That release's adapter; checked beside `manifest`. */
  readonly adapter?: Uint8Array | undefined;
  /** Packed sums, one per cohort that counted, in any order; and of any that was left out. */
  readonly sums?: readonly Uint8Array[] | undefined;
  /** The adapter that the round started from: beside `sums` the step is taken again. */
  readonly parent?: Uint8Array | undefined;
  /** The strategy's state before the step, where its rule has one; checked beside `parent`. */
  readonly state?: Uint8Array | undefined;
  /** The transcript of the round before: it says which state came after its own step. */
  readonly previous?: Uint8Array | undefined;
};

export type Verified = {
  /** SHA-256 (hex) of the transcript's file: its name. */
  readonly digest: string;
  readonly transcript: Transcript;
  readonly plan: Plan;
  readonly task: Task;
  /** The release that the round started from. */
  readonly parent: OpenedRelease;
  readonly checks: readonly Check[];
  /** What was not looked at, since its file was not given. */
  readonly unchecked: readonly string[];
  /** What the given sum says: means over the cohort. */
  readonly record?: RoundRecord | undefined;
};

/**
 * Checks a round that one took no part in (docs/protocol.md, Transcript; attack 18).
 * @throws Fault("refused"), or "bad-message" for what does not decode, naming the first thing wrong.
 */
export function verifyRound(given: Given): Verified {
  const { transcript, trust, check } = openTranscript(given.transcript, given);
  const digest = sha256Hex(given.transcript);
  const { asked, checks } = checkAsked(transcript, trust);
  const { checked, checks: sums } = checkCohorts(transcript, asked, trust);
  checkStates(transcript, asked);
  const cohorts = transcript.cohorts.filter(({ counted }) => counted);
  const opened = given.sums && openSums(given.sums, checked, asked);
  const made =
    given.manifest &&
    checkManifest(given.manifest, { asked, cohorts, all: transcript.cohorts, digest, trust });
  const done = [check, ...checks, ...sums, ...(opened ? [SUM] : []), ...(made ? [made.check] : [])];
  if (given.adapter && made) done.push(checkAdapter(given.adapter, made.release));
  if (given.previous) done.push(checkPrevious(given.previous, transcript, asked));
  const step = { transcript, asked, opened, release: made?.release };
  if (canReplay(given, step)) done.push(takeStep(given, step));
  const unchecked = missing(asked, done);
  return { ...asked, digest, transcript, checks: done, unchecked, record: opened?.record };
}

const SUM = { what: "sum", found: "its bytes have the hash that was signed" };

/** Every sum by itself, and no device in two: it would say more about itself, and count twice. */
function checkCohorts(transcript: Transcript, asked: Asked, trust: Trust) {
  checkCounts(transcript, asked);
  const { cohorts } = transcript;
  const checked = cohorts.map((cohort, at) => {
    mustEqual("cohorts, attempt", cohorts[0]!.terms?.attempt ?? 0, cohort.terms?.attempt ?? 0);
    return { cohort, ...checkCohort(cohort, { where: `cohort ${at + 1}`, spec: asked, trust }) };
  });
  const parties: Party[] = checked.flatMap(({ group }) => [...group.parties.values()]);
  checkDistinct(parties);
  mustEqual(
    "cohorts, devices of different names",
    parties.length,
    new Set(parties.map(({ name }) => name)).size,
  );
  return { checked, checks: checked.flatMap(({ checks }) => checks) };
}

/** As many cohorts as the plan lets a round be dealt into, and as many left as it needs. */
function checkCounts({ cohorts, dealt }: Transcript, { plan }: Asked): void {
  const most = plan.cohort.count;
  must("cohorts, dealt", dealt >= Math.max(fewestDealt(plan), cohorts.length) && dealt <= most, {
    expected: `${fewestDealt(plan)}..${most}, with the ${cohorts.length} told among them`,
    got: `${dealt}`,
  });
  const counted = cohorts.filter((cohort) => cohort.counted).length;
  const fewest = fewestCounted(plan, dealt);
  must("cohorts", counted >= fewest, { expected: `at least ${fewest} that counted`, got: `${counted}` });
}

/**
 * A file for each cohort that counted, found by its hash, so that cohorts of the same sum may share one; of
 * one left out, its sum shows why.
 */
function openSums(files: readonly Uint8Array[], all: readonly Checked[], asked: Asked): Opened {
  const byHash = new Map(files.map((file) => [sha256Hex(file), file]));
  const named = new Set(all.map(({ cohort }) => hex(cohort.sumHash)));
  const stray = [...byHash.keys()].find((name) => !named.has(name));
  const results = all.flatMap((checked, at) => {
    const { cohort } = checked;
    const file = byHash.get(hex(cohort.sumHash));
    if (!cohort.counted) return file ? leftOut(file, checked, { at, asked }) : [];
    const got = stray ? `SHA-256 ${stray}` : "none";
    must(`cohort ${at + 1}, sum`, file, { expected: `SHA-256 ${hex(cohort.sumHash)}`, got });
    return [openSum(file, checked, asked)];
  });
  must("sums", stray === undefined, { expected: "sums of this round", got: `another, ${stray}` });
  return openedOf(results, asked);
}

/** A sum that reads well may not be left out: that would be choosing among results. */
function leftOut(file: Uint8Array, checked: Checked, { at, asked }: { at: number; asked: Asked }): [] {
  let reads = true;
  try {
    openSum(file, checked, asked);
  } catch (fault) {
    if (!(fault instanceof Fault)) throw fault;
    reads = false;
  }
  must(`cohort ${at + 1}, left out`, !reads, { expected: "a sum out of bounds", got: "one that reads well" });
  return [];
}

function checkAdapter(bytes: Uint8Array, release: Release): Check {
  checkArtifact(bytes, release.adapter, "adapter");
  return { what: "adapter", found: "its bytes have the hash that the manifest names" };
}

/** The parent's manifest names the round before, whose record says which state came out of it. */
function checkPrevious(file: Uint8Array, { stateBefore }: Transcript, { parent, task }: Asked): Check {
  mustEqual("previous transcript", parent.release.transcript ?? "none", sha256Hex(file));
  const { payload } = envelopeFromJson(fromUtf8(file, "previous transcript"));
  const { stateAfter } = decodeTranscript(payload);
  if (task.kind === Task_Kind.TRAIN) mustEqual("state before the step", hex(stateAfter), hex(stateBefore));
  return { what: "previous", found: "the parent's manifest names it; the state is the one it left" };
}

type Step = {
  readonly transcript: Transcript;
  readonly asked: Asked;
  readonly opened: Opened | undefined;
  readonly release: Release | undefined;
};

function canReplay({ parent, state }: Given, { asked, opened }: Step): boolean {
  const trains = asked.task.kind === Task_Kind.TRAIN;
  return (
    trains && opened !== undefined && parent !== undefined && (!needsState(asked) || state !== undefined)
  );
}

function takeStep({ parent, state }: Given, { transcript, asked, opened, release }: Step): Check {
  const { sha256 } = replay(transcript, asked, { opened: opened!, parent: parent!, state, release });
  const whose = release ? "the one that the manifest names" : short(sha256);
  return { what: "step", found: `parent, sum and rule ${asked.plan.server.name} give the adapter: ${whose}` };
}

function needsState(asked: Asked): boolean {
  return asked.task.round > 0 && hasState(asked);
}

/** What could have been looked at in such a round. */
function missing(asked: Asked, done: readonly Check[]): string[] {
  const trains = asked.task.kind === Task_Kind.TRAIN;
  const state = needsState(asked) ? ["previous"] : [];
  const all = ["sum", ...(trains ? ["manifest", "adapter", ...state, "step"] : [])];
  return all.filter((what) => !done.some((check) => check.what === what));
}
