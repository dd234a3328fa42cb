import { demand } from "@tutti/foundation/check";
import { Fault } from "@tutti/foundation/fault";
import { verify as portableVerify } from "@tutti/identity/keys";
import { create, encode } from "@tutti/wire/message";
import {
  type Attestations,
  AttestationsSchema,
  type RevealedShare,
  RevealedShareSchema,
  type RevealRequest,
  RevealRequestSchema,
} from "@tutti/wire/secagg";
import { checkSession } from "../group.ts";
import { checkLedger } from "./member.ts";
import { type Attested, type DeviceState, drop, once, outOfOrder, type Revealed } from "./state.ts";

export type { Revealed };

/**
 * Stage 4 (Fig. 4, round 4): with a quorum of good signatures over the very sets that this device signed for,
 * one share of each sender: of its seed if it survived, of its mask key if it vanished. Never both, and once
 * per round.
 * @throws Fault("refused") naming the signature or the set that is wrong; nothing is revealed then.
 */
export function reveal(
  state: DeviceState,
  attestations: Attestations,
): { state: Revealed; message: RevealRequest } {
  const make = () => {
    if (state.stage !== "attested") throw outOfOrder(state, "attested");
    checkAttestations(state, attestations);
    checkLedger(state.member, state.terms);
    // Before the answer exists: a device that dies here has helped nobody, and will not.
    state.member.ledger.add(state.terms.run, state.terms.round);
    return answer(state);
  };
  return once(state, "reveal", { input: { encoded: () => encode(AttestationsSchema, attestations) }, make });
}

function answer({ member, terms, vault, group, shares, survivors }: Attested): {
  state: Revealed;
  message: RevealRequest;
} {
  const alive = new Set(survivors);
  const revealed = [...shares].map(([of, { seedShare, maskKeyShare }]): RevealedShare => {
    // The one branch on which a member's privacy hangs: its seed or its mask key, never both.
    const part = alive.has(of)
      ? ({ case: "seed", value: seedShare.slice() } as const)
      : ({ case: "maskKey", value: maskKeyShare.slice() } as const);
    return create(RevealedShareSchema, { of, share: part });
  });
  drop(
    vault,
    [...shares.values()].flatMap(({ seedShare, maskKeyShare }) => [seedShare, maskKeyShare]),
  );
  const message = create(RevealRequestSchema, { session: group.sid, shares: revealed });
  return { state: { stage: "revealed", member, terms, vault }, message };
}

/** U4 ⊆ U3, each once, more than (n + n_C)/2 of the signatures good on *this device's* statement. */
export function checkAttestations(
  { member, group, survivors, statement }: Attested,
  { session, signed }: Attestations,
): void {
  const { verify = portableVerify } = member;
  const refuse = (expected: string, got: string) => () =>
    new Fault("refused", "attestations", { expected, got });
  checkSession("attestations", session, group.sid);
  demand(signed.length <= survivors.length, refuse(`at most ${survivors.length}`, `${signed.length}`));
  const alive = new Set(survivors);
  const signers = new Set<string>();
  for (const { device, signature } of signed) {
    const party = alive.has(device) ? group.parties.get(device) : undefined;
    demand(party, refuse("signatures of survivors", "one of another device"));
    demand(!signers.has(device), refuse("one signature of each", `two of ${device}`));
    // A quorum of good signatures is what is asked for; those that follow it add nothing.
    const enough = signers.size >= group.quorum;
    demand(
      enough || verify(party.publicKey, statement, signature),
      refuse(`${device}'s signature on what this device signed`, "another"),
    );
    signers.add(device);
  }
  // The smallest integer above (n + n_C)/2 (Theorem 6.5), of all members also on a sparse graph: a quorum per
  // neighbourhood would let each holder be shown a U3 in which just its own neighbours are dead.
  demand(signers.size >= group.quorum, refuse(`at least ${group.quorum}`, `${signers.size}`));
}
