import { Fault } from "@tutti/foundation/fault";
import type { CohortTranscript, Transcript } from "@tutti/wire/transcript";
import { expect } from "vitest";
import { type Given, verifyRound } from "../../src/verify.ts";
import { type PlayedRound, retold } from "./played.ts";

/** A check with the transcript alone. */
export const NONE = {
  manifest: undefined,
  adapter: undefined,
  sums: undefined,
  parent: undefined,
  state: undefined,
  previous: undefined,
};

/** A rule with a state. */
export const MOMENTUM = { server: { name: "momentum", learningRate: 0.5, beta: 0.9 } };

export function fault(given: Given): Fault {
  try {
    verifyRound(given);
  } catch (error) {
    if (error instanceof Fault) return error;
    throw error;
  }
  throw new Error("it was taken for good");
}

/** The first thing wrong with a transcript that the coordinator changed and signed anew. */
export function foundIn(
  round: PlayedRound,
  change: (transcript: Transcript, cohort: CohortTranscript) => void,
): string {
  const { code, message } = fault(retold(round, (it) => change(it, it.cohorts[0]!)));
  expect(code, message).toBe("refused");
  return message;
}
