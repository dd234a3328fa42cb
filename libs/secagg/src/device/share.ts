import { demand } from "@tutti/foundation/check";
import { Fault } from "@tutti/foundation/fault";
import { create, encode } from "@tutti/wire/message";
import {
  type Envelope,
  EnvelopeSchema,
  type Picks,
  PicksSchema,
  type Roster,
  RosterSchema,
  type ShareRequest,
  ShareRequestSchema,
} from "@tutti/wire/secagg";
import { sharedSecrets } from "../agree.ts";
import { seal } from "../envelope.ts";
import { holdersOf, neighboursOf, sharersOf } from "../graph.ts";
import { fullGroup, type Group } from "../group.ts";
import { envelopeKey, pairKey, wipe } from "../keys.ts";
import { splitSecret } from "../shares.ts";
import { seedCommitment } from "../statement.ts";
import { FULL_GRAPH } from "../threshold.ts";
import { checkPicks } from "./picks.ts";
import { checkRoster } from "./roster.ts";
import {
  type Advertised,
  type DeviceState,
  drop,
  keep,
  once,
  outOfOrder,
  type Picked,
  type Shared,
} from "./state.ts";

export type { Shared };

type Outcome = { state: Shared; message: ShareRequest };

/**
 * Stage 1 (Fig. 4, round 1): checks the roster, samples b_u, and seals a share of b_u and of the mask key for
 * every member, itself included. From here on the device holds agreed keys only, the two secret keys are
 * erased. Of more than 100 members each picks its holders first (device/pick.ts).
 * @throws Fault("refused") naming the check that the roster fails.
 */
export async function share(state: DeviceState, roster: Roster): Promise<Outcome> {
  const make = () => {
    if (state.stage !== "advertised") throw outOfOrder(state, "advertised");
    const crew = checkRoster(state, roster);
    const n = crew.parties.size;
    const detail = { expected: `at most ${FULL_GRAPH} members, or picks`, got: `a roster of ${n}` };
    demand(n <= FULL_GRAPH, () => new Fault("refused", "roster", detail));
    return shareOut(state, fullGroup(crew));
  };
  return once(state, "share", { input: { encoded: () => encode(RosterSchema, roster) }, make });
}

/**
 * Stage 1 on the sparse graph: the same, to the holders that this device picked (Bell et al. 2020, Alg. 3).
 * @throws Fault("refused") naming the check that the picks fail.
 */
export async function sharePicked(state: DeviceState, picks: Picks): Promise<Outcome> {
  const make = () => {
    if (state.stage !== "picked") throw outOfOrder(state, "picked");
    return shareOut(state, checkPicks(state, picks));
  };
  return once(state, "share", { input: { encoded: () => encode(PicksSchema, picks) }, make });
}

type Agreed = {
  readonly pairKeys: Map<string, Uint8Array>;
  /** Keys of envelopes to each holder, and from each whose shares this device is to hold. */
  readonly sealers: Map<string, Uint8Array>;
  readonly openers: Map<string, Uint8Array>;
};

/** Every X25519 agreement at once, so that a bad key is met before anything is sent. */
async function agreeKeys(state: Advertised | Picked, { sid, parties, graph }: Group): Promise<Agreed> {
  const { member, vault, envelopeKeys, maskKeys } = state;
  const own = member.name;
  const neighbours = neighboursOf(graph, own);
  const [holders, sharers] = [new Set(holdersOf(graph, own)), new Set(sharersOf(graph, own))];
  const met = [...new Set([...holders, ...sharers])];
  const keyOf = (name: string) => parties.get(name)!.advertisement;
  const enveloped = await sharedSecrets(
    member,
    { secret: envelopeKeys.secretKey, theirs: met.map((name) => keyOf(name).envelopeKey) },
    met.map((name) => `envelope key of ${name}`),
  );
  const masked = await sharedSecrets(
    member,
    { secret: maskKeys.secretKey, theirs: neighbours.map((name) => keyOf(name).maskKey) },
    neighbours.map((name) => `mask key of ${name}`),
  );
  const agreed: Agreed = { pairKeys: new Map(), sealers: new Map(), openers: new Map() };
  for (const [at, name] of met.entries()) {
    const [to, from] = [
      { from: own, to: name },
      { from: name, to: own },
    ];
    if (holders.has(name)) agreed.sealers.set(name, keep(vault, envelopeKey(enveloped[at]!, sid, to)));
    if (sharers.has(name)) agreed.openers.set(name, keep(vault, envelopeKey(enveloped[at]!, sid, from)));
  }
  for (const [at, name] of neighbours.entries())
    agreed.pairKeys.set(name, keep(vault, pairKey(masked[at]!, sid, [own, name])));
  wipe(...enveloped, ...masked);
  return agreed;
}

async function shareOut(state: Advertised | Picked, group: Group): Promise<Outcome> {
  const { member, terms, vault, maskKeys, envelopeKeys } = state;
  const { sid, graph } = group;
  const { pairKeys, sealers, openers } = await agreeKeys(state, group);
  demand(!vault.erased, () => new Fault("cancelled", `session of ${member.name}`));
  const seed = keep(vault, member.random.bytes(32));
  const commitment = seedCommitment(sid, member.name, seed);
  const to = { holders: holdersOf(graph, member.name), threshold: graph.threshold };
  const maskKeyShares = await splitSecret(maskKeys.secretKey, to);
  const seedShares = await splitSecret(seed, to);
  demand(!vault.erased, () => new Fault("cancelled", `session of ${member.name}`));
  const envelopes = to.holders.map((holder): Envelope => {
    const shares = { maskKeyShare: maskKeyShares.get(holder)!, seedShare: seedShares.get(holder)! };
    const sealed = seal(sealers.get(holder)!, { from: member.name, to: holder, ...shares });
    return create(EnvelopeSchema, { from: member.name, to: holder, sealed });
  });
  wipe(...maskKeyShares.values(), ...seedShares.values());
  drop(vault, [maskKeys.secretKey, envelopeKeys.secretKey, ...sealers.values()]);
  const message = create(ShareRequestSchema, { session: sid, envelopes, commitment });
  const held = { member, terms, vault, group, seed, pairKeys, openers, request: message };
  return { state: { stage: "shared", ...held }, message };
}
