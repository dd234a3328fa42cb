import { utf8 } from "@tutti/foundation/bytes";
import { packBits } from "@tutti/kernels/pack";
import { envelopeJson, type Signer, signEnvelope } from "@tutti/release/dsse";
import type { Round } from "@tutti/round/round";
import { type States, TRANSCRIPT, transcriptOf } from "@tutti/round/transcript";
import type { Papers } from "@tutti/round/words";
import { encode } from "@tutti/wire/message";
import { TranscriptSchema } from "@tutti/wire/transcript";
import type { Artifacts } from "../artifacts.ts";

/**
 * Signs the round's transcript and keeps it as an artifact, with the sum beside it as one of its own, so that
 * a third party can take the step again. The transcript's hash; null where there was no secure sum.
 */
export async function transcribe(
  { artifacts, ...signer }: Signer & { readonly artifacts: Artifacts },
  round: Round,
  made: { papers: Papers; plain: Uint32Array; states: States },
): Promise<string | null> {
  const { sum } = round;
  if (sum?.kind !== "secure") return null;
  const { papers, plain, states } = made;
  await artifacts.putBytes(packBits(plain, sum.session.terms.bits));
  const transcript = transcriptOf(round, { papers, states, cohorts: [{ sum, plain, counted: true }] });
  const envelope = signEnvelope(TRANSCRIPT, encode(TranscriptSchema, transcript), signer);
  return artifacts.putBytes(utf8(envelopeJson(envelope)));
}
