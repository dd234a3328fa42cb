import { unreachable } from "@tutti/foundation/check";
import { Memo } from "@tutti/foundation/memo";
import { wordFor as sessionWordFor } from "@tutti/secagg/server/session";
import { create } from "@tutti/wire/message";
import type { SignedEnvelope } from "@tutti/wire/release";
import {
  ExcusedSchema,
  type Instruction,
  InstructionSchema,
  InviteSchema,
  OpenSessionSchema,
  PublishedSchema,
} from "@tutti/wire/round";
import type { Terms } from "@tutti/wire/secagg";
import { isExcused } from "./excuse.ts";
import type { Round } from "./state.ts";
import type { Summing } from "./summing.ts";

/** The signed documents an invitation carries. */
export type Papers = { readonly plan: SignedEnvelope; readonly parent: SignedEnvelope };

/**
 * The coordinator's current word to one device, derived from the state alone: after a reconnect or a crash
 * the same word is said again, and saying it twice is harmless. Null: nothing new, the device waits.
 */
export function wordTo(device: string, round: Round, papers: Papers): Instruction | null {
  switch (round.phase) {
    case "gathering":
    case "failed":
      return null;
    case "unmasking":
      return isExcused(round, device) ? excuse(round) : null;
    case "training":
      return round.invited.has(device) && !round.ready.has(device) && !round.declined.has(device)
        ? invitation(round, papers)
        : null;
    case "summing": {
      const own = round.cohorts.find(({ sum }) => sum.members.has(device));
      if (own) return own.dropped === "" ? sessionWord(device, own.sum) : null;
      return isExcused(round, device) ? excuse(round) : null;
    }
    default:
      return unreachable(round.phase);
  }
}

/** One instruction for each object that it follows from: what many hear, or one hears again, is made once. */
const said = new Memo<object, Instruction>();

function kept(from: object, make: () => Instruction["word"]): Instruction {
  return said.of(from, () => create(InstructionSchema, { word: make() }));
}

/** To who is not in the round: the newest release. */
export function publishedWord(run: string, manifest: SignedEnvelope): Instruction {
  return kept(manifest, () => ({ case: "published", value: create(PublishedSchema, { run, manifest }) }));
}

/** An attempt has one pair of papers. */
function invitation({ spec }: Round, papers: Papers): Instruction {
  const { task, attempt } = spec;
  return kept(spec, () => ({ case: "invite", value: create(InviteSchema, { ...papers, task, attempt }) }));
}

/** When a device without a stream may ask for news: as soon as one that nobody invited. */
const RETRY_AFTER_MS = 2_000;
/** Its own memo: the invitation is kept under the same `spec`. */
const excuses = new Memo<object, Instruction>();

function excuse({ spec }: Round): Instruction {
  const { task, attempt } = spec;
  const value = { run: task.run, round: task.round, attempt, retryAfterMs: RETRY_AFTER_MS };
  return excuses.of(spec, () =>
    create(InstructionSchema, { word: { case: "excused", value: create(ExcusedSchema, value) } }),
  );
}

function sessionWord(device: string, sum: Summing): Instruction | null {
  if (sum.kind === "plain") return sum.uploaded.has(device) || sum.closed ? null : opening(sum.terms);
  const word = sessionWordFor(sum.session, device);
  if (word === null) return null;
  switch (word.kind) {
    case "open":
      return opening(word.message);
    case "roster":
      return kept(word, () => ({ case: "roster", value: word.message }));
    case "picks":
      return kept(word, () => ({ case: "picks", value: word.message }));
    case "delivery":
      return kept(word, () => ({ case: "delivery", value: word.message }));
    case "survivors":
      return kept(word, () => ({ case: "survivors", value: word.message }));
    case "attestations":
      return kept(word, () => ({ case: "attestations", value: word.message }));
    default:
      return unreachable(word);
  }
}

function opening(terms: Terms): Instruction {
  return kept(terms, () => ({ case: "openSession", value: create(OpenSessionSchema, { terms }) }));
}
