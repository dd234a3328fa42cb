import { platformRandom } from "@tutti/foundation/random";
import { bind, issue } from "@tutti/identity/certificate";
import { newSeed, type SigningKey, signingKey } from "@tutti/identity/keys";
import { agree } from "@tutti/secagg/agree";
import { seal } from "@tutti/secagg/envelope";
import { neighboursOf, sharersOf } from "@tutti/secagg/graph";
import { type Crew, formCrew, fullGroup, type Group, sparseGroup } from "@tutti/secagg/group";
import { envelopeKey, type KeyPair, newKeyPair } from "@tutti/secagg/keys";
import { drawPlaces, encodePlaces } from "@tutti/secagg/picks";
import { SHARE_BYTES } from "@tutti/secagg/shares";
import { advertiseStatement, attestStatement, pickStatement } from "@tutti/secagg/statement";
import { FULL_GRAPH } from "@tutti/secagg/threshold";
import type { Certificate } from "@tutti/wire/device";
import { create } from "@tutti/wire/message";
import {
  type Advertisement,
  AdvertisementSchema,
  AttestationSchema,
  type Attestations,
  AttestationsSchema,
  type AttestRequest,
  type Delivery,
  DeliverySchema,
  EnvelopeSchema,
  type PickRequest,
  PickSchema,
  type Picks,
  PicksSchema,
  type Roster,
  RosterSchema,
  type ShareRequest,
  type Survivors,
  SurvivorsSchema,
  type Terms,
} from "@tutti/wire/secagg";

// A cohort of which one device is real. The others say only what that one hears, with good signatures and
// envelopes that open; what is inside them is noise. It runs in a page as in Node.

const random = platformRandom();

/** Who a scripted member is, in every round. */
export type Papers = { readonly name: string; readonly key: SigningKey; readonly certificate: Certificate };

export type Cast = {
  readonly authority: Uint8Array;
  /** The real device, somewhere in the middle of the order by name. */
  readonly own: Papers;
  readonly others: readonly Papers[];
};

/** n members with certificates of one authority: "device-000", "device-001", … */
export function gather(n: number, nowS: number): Cast {
  const authority = signingKey(newSeed(random));
  const papers = Array.from({ length: n }, (_, i): Papers => {
    const [token, key] = [signingKey(newSeed(random)), signingKey(newSeed(random))];
    const name = `device-${String(i).padStart(n > FULL_GRAPH ? 3 : 2, "0")}`;
    const validity = { notBeforeS: nowS - 3600, notAfterS: nowS + 86_400, serial: random.bytes(16) };
    const grant = issue(authority, { role: "device", name, publicKey: token.publicKey, ...validity });
    return { name, key, certificate: bind(grant, token, key.publicKey) };
  });
  const own = papers.splice(n >> 1, 1)[0]!;
  return { authority: authority.publicKey, own, others: papers };
}

type Actor = Papers & { readonly envelopeKeys: KeyPair; readonly advertisement: Advertisement };

/** One session as the coordinator would lead it, towards the real device alone. */
export class Script {
  readonly #terms: Terms;
  readonly #own: string;
  readonly #actors: readonly Actor[];
  #ownAdvertisement: Advertisement | null = null;
  #crew: Crew | null = null;
  #group: Group | null = null;

  constructor({ own, others }: Cast, terms: Terms) {
    this.#terms = terms;
    this.#own = own.name;
    this.#actors = others.map((papers) => {
      const [envelopeKeys, maskKeys] = [newKeyPair(random), newKeyPair(random)];
      const keys = { envelopeKey: envelopeKeys.publicKey, maskKey: maskKeys.publicKey };
      const signature = papers.key.sign(advertiseStatement(terms, keys));
      const { certificate } = papers;
      return {
        ...papers,
        envelopeKeys,
        advertisement: create(AdvertisementSchema, { certificate, ...keys, signature }),
      };
    });
  }

  get sparse(): boolean {
    return this.#actors.length >= FULL_GRAPH;
  }

  /** Mask streams that the real device makes: one with each neighbour, and its own. */
  get streams(): number {
    return neighboursOf(this.group.graph, this.#own).length + 1;
  }

  /** Members whose shares it holds. */
  get sharers(): number {
    return sharersOf(this.group.graph, this.#own).length;
  }

  get group(): Group {
    if (!this.#group) throw new Error("the group is not formed yet");
    return this.#group;
  }

  roster(own: Advertisement): Roster {
    this.#ownAdvertisement = own;
    const signed = this.#actors.map(({ name, key, advertisement }) => ({
      name,
      publicKey: key.publicKey,
      advertisement,
    }));
    // Nobody reads this public key: the device knows its own.
    const parties = [...signed, { name: this.#own, publicKey: new Uint8Array(32), advertisement: own }];
    const crew = formCrew(this.#terms, parties);
    this.#crew = crew;
    if (!this.sparse) this.#group = fullGroup(crew);
    const members = [...crew.parties.values()].map(({ advertisement }) => advertisement);
    return create(RosterSchema, { terms: this.#terms, members, ...crew.size });
  }

  /** Everybody picks; every list is signed, as the device checks those that concern it. */
  picks(request: PickRequest): Picks {
    const crew = this.#crew!;
    const names = [...crew.parties.keys()];
    const keys = new Map(this.#actors.map(({ name, key }) => [name, key]));
    const picks = names.map((name, member) => {
      const key = keys.get(name);
      if (!key) return create(PickSchema, { member, holders: request.holders, signature: request.signature });
      const holders = encodePlaces(drawPlaces(crew.size.degree, { n: names.length, own: member }, random));
      const signature = key.sign(pickStatement(this.#terms, { root: crew.root, holders }));
      return create(PickSchema, { member, holders, signature });
    });
    this.#group = sparseGroup(crew, picks);
    return create(PicksSchema, { roster: crew.root, picks });
  }

  delivery(sent: ShareRequest): Delivery {
    const { sid, graph, parties } = this.group;
    const to = this.#own;
    const holds = new Set(sharersOf(graph, to));
    const envelopes = this.#actors
      .filter(({ name }) => holds.has(name))
      .map(({ name: from, envelopeKeys }) => {
        const secret = agree(envelopeKeys.secretKey, this.#ownAdvertisement!.envelopeKey);
        const shares = { maskKeyShare: random.bytes(SHARE_BYTES), seedShare: random.bytes(SHARE_BYTES) };
        const sealed = seal(envelopeKey(secret, sid, { from, to }), { from, to, ...shares });
        return create(EnvelopeSchema, { from, to, sealed });
      });
    const back = sent.envelopes.filter((envelope) => envelope.to === to);
    const senders = this.sparse ? [...parties.keys()] : [];
    const all = [...envelopes, ...back.map((envelope) => ({ ...envelope, from: to }))];
    return create(DeliverySchema, { session: sid, envelopes: all, senders });
  }

  survivors(): Survivors {
    return create(SurvivorsSchema, { session: this.group.sid, devices: [...this.group.parties.keys()] });
  }

  /** `from` the last or the first: the device verifies a quorum of them in the order in which they come. */
  attestations(own: AttestRequest, from: "first" | "last"): Attestations {
    const { sid, root, parties } = this.group;
    const all = [...parties.keys()];
    const statement = attestStatement(sid, { root, senders: all, survivors: all });
    const keys = new Map(this.#actors.map(({ name, key }) => [name, key]));
    const signed = all.map((device) => {
      const signature = keys.get(device)?.sign(statement) ?? own.signature;
      return create(AttestationSchema, { device, signature });
    });
    return create(AttestationsSchema, { session: sid, signed: from === "first" ? signed : signed.reverse() });
  }
}
