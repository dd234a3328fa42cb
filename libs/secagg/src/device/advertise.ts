import { create } from "@tutti/wire/message";
import { type Advertisement, AdvertisementSchema, type Terms } from "@tutti/wire/secagg";
import { checkTerms } from "../group.ts";
import { newKeyPair } from "../keys.ts";
import { advertiseStatement } from "../statement.ts";
import { checkLedger, checkMember, type Member } from "./member.ts";
import { type Advertised, keep, newVault } from "./state.ts";

export type { Advertised };

/**
 * Stage 0 (Bonawitz et al. 2017, Fig. 4, round 0): two fresh X25519 pairs, c for envelopes and s for masks,
 * signed for this run, round and attempt. `terms` are the device's own: a roster with any others is refused
 * later.
 * @throws Fault("refused") for a certificate that does not hold, or a round that this device has answered
 * for.
 */
export function advertise(terms: Terms, member: Member): { state: Advertised; message: Advertisement } {
  checkTerms(terms);
  checkMember(member);
  checkLedger(member, terms);
  const vault = newVault();
  const envelopeKeys = newKeyPair(member.random, member.agree);
  const maskKeys = newKeyPair(member.random, member.agree);
  keep(vault, envelopeKeys.secretKey);
  keep(vault, maskKeys.secretKey);
  const keys = { envelopeKey: envelopeKeys.publicKey, maskKey: maskKeys.publicKey };
  const signature = member.key.sign(advertiseStatement(terms, keys));
  const message = create(AdvertisementSchema, { certificate: member.certificate, ...keys, signature });
  const state: Advertised = {
    stage: "advertised",
    member,
    terms,
    vault,
    envelopeKeys,
    maskKeys,
    advertisement: message,
  };
  return { state, message };
}
