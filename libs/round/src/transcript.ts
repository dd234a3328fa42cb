import { assert } from "@tutti/foundation/check";
import { sha256 } from "@tutti/foundation/hash";
import { packBits } from "@tutti/kernels/pack";
import { picksOf } from "@tutti/secagg/server/words";
import { MAX_DEVICES } from "@tutti/update/quantise";
import { checkCounts } from "@tutti/wire/counts";
import { create, decode } from "@tutti/wire/message";
import { AttestationSchema } from "@tutti/wire/secagg";
import {
  type CohortTranscript,
  CohortTranscriptSchema,
  type Transcript,
  TranscriptSchema,
} from "@tutti/wire/transcript";
import { costOfSum } from "./price.ts";
import type { Round } from "./round.ts";
import type { RoundSpec } from "./spec.ts";
import type { Summing } from "./summing.ts";
import type { Papers } from "./words.ts";

/** The payload type of a transcript's envelope. */
export const TRANSCRIPT = "application/vnd.tutti.transcript+protobuf";

export const MAX_COHORTS = 100;
export const MAX_TRANSCRIPT_BYTES = 256 << 20;
/** A certificate with its labels, keys, signatures, picks, and the member's name in the lists: below this. */
const MEMBER_BYTES = 2560;

assert(
  MAX_COHORTS * MAX_DEVICES * MEMBER_BYTES <= MAX_TRANSCRIPT_BYTES,
  "the largest round has a transcript",
);

type Work = Pick<RoundSpec, "plan" | "task">;

export type SecureSum = Extract<Summing, { kind: "secure" }>;

/** A cohort whose sum was opened: its session, and the words that the step is taken from. */
export type Concluded = {
  readonly sum: SecureSum;
  /** Its hash is that of `packBits(plain, bits)`, the sum's own file. */
  readonly plain: Uint32Array;
  readonly counted: boolean;
};

/** The strategy's state before and after the step, as SHA-256; empty where there is none. */
export type States = { readonly before: Uint8Array; readonly after: Uint8Array };

/**
 * The transcript of a round that is over: the same whenever it is made, also after a crash, since all of it
 * follows from the round's journal (docs/protocol.md, Transcript).
 */
export function transcriptOf(
  { spec, trust }: Pick<Round, "spec" | "trust">,
  made: { papers: Papers; cohorts: readonly Concluded[]; dealt: number; states: States },
): Transcript {
  const { papers, cohorts, dealt, states } = made;
  return create(TranscriptSchema, {
    ...papers,
    task: spec.task,
    checkedAtS: trust.nowS,
    cohorts: cohorts.map((cohort) => cohortOf(spec, cohort)),
    dealt,
    stateBefore: states.before,
    stateAfter: states.after,
  });
}

function cohortOf(spec: Work, { sum, plain, counted }: Concluded): CohortTranscript {
  const { terms, crew, group, senders, survivors, signers, attested } = sum.session;
  assert(crew !== null && group !== null, "a sum that was opened has a roster");
  const privacy = costOfSum(spec, group, survivors.length);
  return create(CohortTranscriptSchema, {
    terms,
    members: [...crew.parties.values()].map(({ advertisement }) => advertisement),
    picks: picksOf(sum.session),
    senders: [...senders],
    survivors: [...survivors],
    attested: signers.map((device) =>
      create(AttestationSchema, { device, signature: attested.get(device)!.signature }),
    ),
    sumHash: sha256(packBits(plain, terms.bits)),
    ...(privacy && { privacy }),
    counted,
  });
}

/**
 * A transcript from its bytes. @throws Fault("bad-message") for bytes that are none, or for more cohorts or
 * members than a round can have; that is found before any are built.
 */
export function decodeTranscript(bytes: Uint8Array): Transcript {
  if (bytes.length <= MAX_TRANSCRIPT_BYTES) {
    const counts = { most: MAX_DEVICES, of: { cohorts: MAX_COHORTS } };
    checkCounts(TranscriptSchema, bytes, counts);
  }
  return decode(TranscriptSchema, bytes, MAX_TRANSCRIPT_BYTES);
}
