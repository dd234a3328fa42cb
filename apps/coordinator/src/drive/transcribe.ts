import { utf8 } from "@tutti/foundation/bytes";
import { packBits } from "@tutti/kernels/pack";
import { envelopeJson, type Signer, signEnvelope } from "@tutti/release/dsse";
import type { Round } from "@tutti/round/round";
import { type States, TRANSCRIPT, transcriptOf } from "@tutti/round/transcript";
import type { Papers } from "@tutti/round/words";
import { encode } from "@tutti/wire/message";
import { TranscriptSchema } from "@tutti/wire/transcript";
import { failpoint } from "../failpoint.ts";
import type { Storing } from "./in-time.ts";
import type { Outcome } from "./open.ts";

/**
 * Signs the round's transcript and keeps it as an artifact, with each sum that was opened beside it as one of
 * its own, so that a third party can take the step again. The transcript's hash; "" without secure sums.
 */
export async function transcribe(
  { artifacts, ...signer }: Signer & { readonly artifacts: Storing },
  round: Round,
  made: { papers: Papers; outcomes: readonly Outcome[]; states: States },
): Promise<string> {
  const { papers, outcomes, states } = made;
  const cohorts = outcomes.flatMap(({ sum, plain, dropped }) =>
    sum.kind === "secure" && plain !== null ? [{ sum, plain, counted: dropped === "" }] : [],
  );
  if (cohorts.length === 0) return "";
  for (const { sum, plain } of cohorts) {
    await artifacts.putBytes(packBits(plain, sum.session.terms.bits));
    failpoint("complete.sum");
  }
  failpoint("complete.sums");
  const transcript = transcriptOf(round, { papers, states, cohorts, dealt: outcomes.length });
  const envelope = signEnvelope(TRANSCRIPT, encode(TranscriptSchema, transcript), signer);
  return artifacts.putBytes(utf8(envelopeJson(envelope)));
}
