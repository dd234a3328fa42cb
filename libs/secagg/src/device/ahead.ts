import { equalBytes } from "@tutti/foundation/bytes";
import type { Verify } from "@tutti/identity/keys";
import type { Attestations, Picks, Roster } from "@tutti/wire/secagg";
import { checkPicks } from "./picks.ts";
import { checkAttestations } from "./reveal.ts";
import { checkRoster } from "./roster.ts";
import type { DeviceState } from "./state.ts";

/** One signature to verify: Ed25519, 32 bytes of key, 64 of signature. */
export type Check = {
  readonly publicKey: Uint8Array;
  readonly message: Uint8Array;
  readonly signature: Uint8Array;
};

/** Where a platform verifies asynchronously only, as browsers do: a verdict for each check, in order. */
export type VerifyAll = (checks: readonly Check[]) => Promise<readonly boolean[]>;

/** A word whose signatures a device verifies. */
export type SignedWord =
  | { readonly kind: "roster"; readonly message: Roster }
  | { readonly kind: "picks"; readonly message: Picks }
  | { readonly kind: "attestations"; readonly message: Attestations };

/**
 * The state with the verdicts on a word's signatures at hand, so that the stage that takes the word next
 * needs no other verification. The stage's own checks say which signatures those are: they run once to ask,
 * and once more, in the stage, to judge. A signature that nobody asked about is not good.
 * @throws Fault("refused") for what is wrong with the word beside its signatures.
 */
export async function verifyAhead<State extends DeviceState>(
  state: State,
  word: SignedWord,
  verifyAll: VerifyAll,
): Promise<State> {
  const asked: Check[] = [];
  const asking: Verify = (publicKey, message, signature) => asked.push({ publicKey, message, signature }) > 0;
  checkOf({ ...state, member: { ...state.member, verify: asking } }, word);
  const verdicts = await verifyAll(asked);
  let next = 0;
  const verify: Verify = (publicKey, message, signature) => {
    const check = asked[next];
    const same =
      check !== undefined &&
      equalBytes(check.publicKey, publicKey) &&
      equalBytes(check.message, message) &&
      equalBytes(check.signature, signature);
    return same && verdicts[next++] === true;
  };
  return { ...state, member: { ...state.member, verify } };
}

function checkOf(state: DeviceState, word: SignedWord): void {
  if (word.kind === "roster" && state.stage === "advertised") checkRoster(state, word.message);
  if (word.kind === "picks" && state.stage === "picked") checkPicks(state, word.message);
  if (word.kind === "attestations" && state.stage === "attested") checkAttestations(state, word.message);
}
