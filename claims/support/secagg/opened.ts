import { nativeAgree } from "@tutti/coordinator/native";
import { assert } from "@tutti/foundation/check";
import { platformRandom } from "@tutti/foundation/random";
import { publicKeyOf, sharedSecret } from "@tutti/secagg/agree";
import { type Graph, holdersOf, neighboursOf, pickedGraph, sharersOf } from "@tutti/secagg/graph";
import type { Group, Party } from "@tutti/secagg/group";
import { pairKey, selfKey } from "@tutti/secagg/keys";
import { addMasks, type Mask, pairSign } from "@tutti/secagg/mask";
import { drawPlaces } from "@tutti/secagg/picks";
import { openSession, type ServerSession } from "@tutti/secagg/server/session";
import { splitSecret } from "@tutti/secagg/shares";
import { seedCommitment } from "@tutti/secagg/statement";
import { create } from "@tutti/wire/message";
import {
  AdvertisementSchema,
  RevealRequestSchema,
  ShareRequestSchema,
  TermsSchema,
} from "@tutti/wire/secagg";

/** A session's sizes: members, words, share-holders of each, shares that open a secret, members lost. */
export type Sizes = { n: number; length: number; degree: number; threshold: number; lost: number };

type Secrets = { readonly secretKey: Uint8Array; readonly seed: Uint8Array };
type Cast = { readonly sid: Uint8Array; readonly graph: Graph; readonly secrets: Map<string, Secrets> };

const random = platformRandom();
const [KIND, BITS] = [{ alive: "seed", lost: "maskKey" }, 32] as const;

/**
 * A coordinator's session that may be unmasked, as plain data: the graph of everybody's own picks, real keys,
 * the real shares of every secret that is asked for; certificates and signatures, which unmasking does not
 * read, are empty. The first `lost` members shared and then sent no vector. The sum of the others' vectors is
 * masked as they would: each adds its own mask and one with each lost neighbour; those between two of them
 * cancel.
 */
export async function openedSession(
  sizes: Sizes,
): Promise<{ session: ServerSession; masked: Uint32Array; plain: Uint32Array }> {
  const { length, lost } = sizes;
  const cast = draw(sizes);
  const { sid, graph, secrets } = cast;
  const survivors = graph.members.slice(lost);
  const parties = new Map([...secrets].map(([name, { secretKey }]) => [name, partyOf(name, secretKey)]));
  const terms = create(TermsSchema, { bits: BITS, length, modelHash: sid, taskHash: sid });
  const group: Group = { terms, sid, root: sid, parties, graph, quorum: 1, least: 1 };
  const shared = [...secrets].map(([name, { seed }]) => {
    const commitment = seedCommitment(sid, name, seed);
    return [name, create(ShareRequestSchema, { session: sid, commitment })] as const;
  });
  const session: ServerSession = {
    ...openSession(terms, { authority: sid, nowS: 0 }),
    phase: "complete",
    advertised: parties,
    group,
    sid,
    shared: new Map(shared),
    senders: graph.members,
    uploaded: new Set(survivors),
    survivors,
    signers: survivors,
    revealed: await reveals(cast, lost),
  };
  const plain = Uint32Array.from({ length }, (_, at) => Math.imul(at, 2654435761));
  return { session, plain, masked: maskedSum(plain, cast, survivors) };
}

function draw({ n, degree, threshold }: Sizes): Cast {
  const members = Array.from({ length: n }, (_, at) => `d${String(at).padStart(4, "0")}`);
  const picks = members.map((name, own) => {
    return [name, drawPlaces(degree, { n, own }, random).map((at) => members[at]!)] as const;
  });
  const sid = random.bytes(32);
  const graph = pickedGraph(new Map(picks), { degree, threshold, root: sid });
  const secrets = members.map((name) => {
    return [name, { secretKey: random.bytes(32), seed: random.bytes(32) }] as const;
  });
  return { sid, graph, secrets: new Map(secrets) };
}

function partyOf(name: string, secretKey: Uint8Array): Party {
  const maskKey = publicKeyOf(secretKey, nativeAgree);
  return { name, publicKey: maskKey, advertisement: create(AdvertisementSchema, { maskKey }) };
}

/** What each survivor reveals: of each member whose shares it holds one, a seed's or a mask key's. */
async function reveals({ sid, graph, secrets }: Cast, lost: number): Promise<ServerSession["revealed"]> {
  const gone = new Set(graph.members.slice(0, lost));
  const shares = new Map<string, Map<string, Uint8Array>>();
  for (const [name, { secretKey, seed }] of secrets) {
    const holders = holdersOf(graph, name);
    const secret = gone.has(name) ? secretKey : seed;
    shares.set(name, await splitSecret(secret, { holders, threshold: graph.threshold }));
  }
  const requests = graph.members.slice(lost).map((holder) => {
    const held = sharersOf(graph, holder).map((of) => {
      const value = shares.get(of)!.get(holder)!;
      return { of, share: { case: gone.has(of) ? KIND.lost : KIND.alive, value } };
    });
    return [holder, create(RevealRequestSchema, { session: sid, shares: held })] as const;
  });
  return new Map(requests);
}

function maskedSum(plain: Uint32Array, cast: Cast, survivors: readonly string[]): Uint32Array {
  const masked = plain.slice();
  const alive = new Set(survivors);
  for (const name of survivors) addMasks(masked, masksOf(name, cast, alive));
  assert(
    masked.some((word, at) => word !== plain[at]),
    "masks hide the sum",
  );
  return masked;
}

function* masksOf(name: string, { sid, graph, secrets }: Cast, alive: ReadonlySet<string>): Generator<Mask> {
  const { secretKey: secret, seed } = secrets.get(name)!;
  yield { key: selfKey(seed, sid, name), sign: 1 };
  for (const other of neighboursOf(graph, name)) {
    if (alive.has(other)) continue;
    const theirs = publicKeyOf(secrets.get(other)!.secretKey, nativeAgree);
    const shared = sharedSecret(nativeAgree, { secret, theirs }, other);
    yield { key: pairKey(shared, sid, [name, other]), sign: pairSign(name, other) };
  }
}
