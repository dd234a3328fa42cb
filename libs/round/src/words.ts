import { unreachable } from "@tutti/foundation/check";
import { wordFor as sessionWordFor } from "@tutti/secagg/server/session";
import { create } from "@tutti/wire/message";
import type { SignedEnvelope } from "@tutti/wire/release";
import { type Instruction, InstructionSchema } from "@tutti/wire/round";
import type { Round } from "./round.ts";
import { termsOf } from "./spec.ts";
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
    case "unmasking":
    case "failed":
      return null;
    case "training":
      return round.invited.has(device) && !round.ready.has(device) && !round.declined.has(device)
        ? invitation(round, papers)
        : null;
    case "summing": {
      const own = round.cohorts.find(({ sum }) => sum.members.has(device));
      return own && own.dropped === "" ? sessionWord(device, round, own.sum) : null;
    }
    default:
      return unreachable(round.phase);
  }
}

function invitation({ spec }: Round, papers: Papers): Instruction {
  const invite = { ...papers, task: spec.task, attempt: spec.attempt };
  return create(InstructionSchema, { word: { case: "invite", value: invite } });
}

function sessionWord(device: string, { spec }: Round, sum: Summing): Instruction | null {
  if (sum.kind === "plain") {
    if (sum.uploaded.has(device) || sum.closed) return null;
    return create(InstructionSchema, { word: { case: "openSession", value: { terms: termsOf(spec) } } });
  }
  const word = sessionWordFor(sum.session, device);
  if (word === null) return null;
  switch (word.kind) {
    case "open":
      return create(InstructionSchema, {
        word: { case: "openSession", value: { terms: sum.session.terms } },
      });
    case "roster":
      return create(InstructionSchema, { word: { case: "roster", value: word.message } });
    case "picks":
      return create(InstructionSchema, { word: { case: "picks", value: word.message } });
    case "delivery":
      return create(InstructionSchema, { word: { case: "delivery", value: word.message } });
    case "survivors":
      return create(InstructionSchema, { word: { case: "survivors", value: word.message } });
    case "attestations":
      return create(InstructionSchema, { word: { case: "attestations", value: word.message } });
    default:
      return unreachable(word);
  }
}
