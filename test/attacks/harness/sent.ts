import type { Fault } from "@tutti/foundation/fault";
import type { Instruction } from "@tutti/wire/round";
import type {
  AdvertiseRequest,
  AttestRequest,
  PickRequest,
  RevealRequest,
  ShareRequest,
  UploadHeader,
} from "@tutti/wire/secagg";
import { Refused } from "../scenario.ts";

/** A vector as it came: its header, and the packed words behind it. */
export type Uploaded = { readonly header: UploadHeader; readonly packed: Uint8Array };

/** What devices send in a session, by stage. */
export type Messages = {
  readonly advertise: AdvertiseRequest;
  readonly pick: PickRequest;
  readonly share: ShareRequest;
  readonly upload: Uploaded;
  readonly attest: AttestRequest;
  readonly reveal: RevealRequest;
};

export type Stage = keyof Messages;
export type Sent = { [S in Stage]: { readonly stage: S; readonly message: Messages[S] } }[Stage];
export type Word = Instruction["word"];

/** All that a device did when it heard a word: messages of a session, and refusals. */
export type Answer = { readonly sent: readonly Sent[]; readonly faults: readonly Fault[] };

/** A device, real or scripted, as a coordinator meets it. */
export type Actor = { readonly name: string; ask(word: Word): Promise<Answer> };

/** The message of a stage in an answer. @throws Refused with what was said instead. */
export function answerOf<S extends Stage>({ sent, faults }: Answer, stage: S): Messages[S] {
  const found = sent.find((one) => one.stage === stage);
  if (found) return found.message as Messages[S];
  throw new Refused(faults[0] ?? "ignored: an old word, of another session", sent.length);
}
