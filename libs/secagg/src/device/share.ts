import { demand } from "@tutti/foundation/check";
import { Fault } from "@tutti/foundation/fault";
import { sha256 } from "@tutti/foundation/hash";
import { create, encode } from "@tutti/wire/message";
import {
  type Envelope,
  EnvelopeSchema,
  type Roster,
  RosterSchema,
  type ShareRequest,
  ShareRequestSchema,
} from "@tutti/wire/secagg";
import { agree as portableAgree, sharedSecret } from "../agree.ts";
import { seal } from "../envelope.ts";
import type { Group } from "../group.ts";
import { envelopeKey, pairKey, wipe } from "../keys.ts";
import { splitSecret } from "../shares.ts";
import { seedCommitment } from "../statement.ts";
import { checkRoster } from "./roster.ts";
import { type Advertised, type DeviceState, drop, keep, once, outOfOrder, type Shared } from "./state.ts";

export type { Shared };

/**
 * Stage 1 (Fig. 4, round 1): checks the roster, samples b_u, and seals a share of b_u and of the mask key for
 * every member, itself included. From here on the device holds agreed keys only, the two secret keys are
 * erased.
 * @throws Fault("refused") naming the check that the roster fails.
 */
export async function share(
  state: DeviceState,
  roster: Roster,
): Promise<{ state: Shared; message: ShareRequest }> {
  const input = sha256(encode(RosterSchema, roster));
  const make = () => {
    if (state.stage !== "advertised") throw outOfOrder(state, "advertised");
    const group = checkRoster(state, roster);
    return shareOut(state, { group, ...agreeAll(state, group) });
  };
  return once(state, "share", { input, make });
}

type Agreed = {
  readonly pairKeys: Map<string, Uint8Array>;
  /** Keys of envelopes to and from each member. */
  readonly sealers: Map<string, Uint8Array>;
  readonly openers: Map<string, Uint8Array>;
};

/** Every X25519 agreement at once, so that a bad key is met before anything is sent. */
function agreeAll({ member, vault, envelopeKeys, maskKeys }: Advertised, { sid, parties }: Group): Agreed {
  const { name: own, agree = portableAgree } = member;
  const agreed: Agreed = { pairKeys: new Map(), sealers: new Map(), openers: new Map() };
  for (const [name, { advertisement }] of parties) {
    const envelopeKeyed = { secret: envelopeKeys.secretKey, theirs: advertisement.envelopeKey };
    const shared = sharedSecret(agree, envelopeKeyed, `envelope key of ${name}`);
    agreed.sealers.set(name, keep(vault, envelopeKey(shared, sid, { from: own, to: name })));
    agreed.openers.set(name, keep(vault, envelopeKey(shared, sid, { from: name, to: own })));
    wipe(shared);
    if (name === own) continue;
    const masking = { secret: maskKeys.secretKey, theirs: advertisement.maskKey };
    const pair = sharedSecret(agree, masking, `mask key of ${name}`);
    agreed.pairKeys.set(name, keep(vault, pairKey(pair, sid, [own, name])));
    wipe(pair);
  }
  return agreed;
}

async function shareOut(
  state: Advertised,
  { group, pairKeys, sealers, openers }: Agreed & { group: Group },
): Promise<{ state: Shared; message: ShareRequest }> {
  const { member, terms, vault, maskKeys, envelopeKeys } = state;
  const { sid, threshold } = group;
  const seed = keep(vault, member.random.bytes(32));
  const commitment = seedCommitment(sid, member.name, seed);
  const holders = [...group.parties.keys()];
  const maskKeyShares = await splitSecret(maskKeys.secretKey, { holders, threshold });
  const seedShares = await splitSecret(seed, { holders, threshold });
  demand(!vault.erased, () => new Fault("cancelled", `session of ${member.name}`));
  const envelopes = holders.map((to): Envelope => {
    const shares = { maskKeyShare: maskKeyShares.get(to)!, seedShare: seedShares.get(to)! };
    const sealed = seal(sealers.get(to)!, { from: member.name, to, ...shares }, member.random);
    return create(EnvelopeSchema, { from: member.name, to, sealed });
  });
  wipe(...maskKeyShares.values(), ...seedShares.values());
  drop(vault, [maskKeys.secretKey, envelopeKeys.secretKey, ...sealers.values()]);
  const message = create(ShareRequestSchema, { session: sid, envelopes, commitment });
  const shared: Shared = {
    stage: "shared",
    member,
    terms,
    vault,
    group,
    seed,
    pairKeys,
    openers,
    request: message,
  };
  return { state: shared, message };
}
