import { unpackBits } from "@tutti/kernels/pack";
import { pairKey, selfKey } from "@tutti/secagg/keys";
import { pairSign, removeMasks } from "@tutti/secagg/mask";
import { attestStatement, rosterRoot } from "@tutti/secagg/statement";
import { thresholdFor } from "@tutti/secagg/threshold";
import { create } from "@tutti/wire/message";
import {
  type Advertisement,
  AttestationSchema,
  type Attestations,
  AttestationsSchema,
  type Delivery,
  DeliverySchema,
  type Envelope,
  type RevealRequest,
  type Roster,
  RosterSchema,
  type ShareRequest,
  type Survivors,
  SurvivorsSchema,
  type Terms,
} from "@tutti/wire/secagg";
import { combine } from "shamir-secret-sharing";
import { agreedWith, type Corrupt } from "./corrupt.ts";
import { type Actor, answerOf } from "./sent.ts";

type Signed = readonly (readonly [string, Uint8Array])[];
type Kind = "seed" | "maskKey";

/**
 * One session as a malicious coordinator leads it. Each stage asks one device and keeps its answer; a
 * scenario decides what each of them is told. A refusal ends the attack (`answerOf`).
 */
export class Attempt {
  readonly terms: Terms;
  readonly corrupt: readonly Corrupt[];
  readonly adverts = new Map<string, Advertisement>();
  readonly shared = new Map<string, ShareRequest>();
  readonly packed = new Map<string, Uint8Array>();
  readonly signatures = new Map<string, Uint8Array>();
  readonly revealed = new Map<string, RevealRequest>();

  constructor(terms: Terms, corrupt: readonly Corrupt[] = []) {
    this.terms = terms;
    this.corrupt = corrupt;
    for (const one of corrupt) this.adverts.set(one.name, one.advertisement(terms));
  }

  async advertise(actor: Actor, terms = this.terms): Promise<void> {
    const answer = await actor.ask({ case: "openSession", value: { $typeName: OPEN, terms } });
    this.adverts.set(actor.name, answerOf(answer, "advertise").advertisement!);
  }

  /** U1, as an honest coordinator would send it. */
  roster(): Roster {
    const names = [...this.adverts.keys()].sort();
    const members = names.map((name) => this.adverts.get(name)!);
    const { threshold } = this;
    return create(RosterSchema, { terms: this.terms, members, threshold, degree: members.length });
  }

  get threshold(): number {
    return thresholdFor(this.adverts.size);
  }

  async share(actor: Actor, roster = this.roster()): Promise<void> {
    this.dealt(actor, answerOf(await actor.ask({ case: "roster", value: roster }), "share"));
  }

  dealt(actor: Actor, request: ShareRequest): void {
    // On the wire an envelope has no sender: it is the caller.
    for (const envelope of request.envelopes) envelope.from = actor.name;
    this.shared.set(actor.name, request);
  }

  /** As devices that shared computed it. */
  get sid(): Uint8Array {
    return [...this.shared.values()][0]!.session;
  }

  /** The envelopes to one device from these; the attacker's own devices write theirs now. */
  delivery(to: string, from: readonly string[]): Delivery {
    const session = this.shared.get(to)!.session;
    const envelopes = [...from].sort().map((name): Envelope => {
      const own = this.corrupt.find((one) => one.name === name);
      if (own) return own.envelopeTo(to, this.adverts.get(to)!, session);
      return this.shared.get(name)!.envelopes.find((envelope) => envelope.to === to)!;
    });
    return create(DeliverySchema, { session, envelopes });
  }

  async mask(actor: Actor, delivery: Delivery): Promise<void> {
    const answer = await actor.ask({ case: "delivery", value: delivery });
    this.packed.set(actor.name, answerOf(answer, "upload").packed);
  }

  survivors(devices: readonly string[], session = this.sid): Survivors {
    return create(SurvivorsSchema, { session, devices: [...devices] });
  }

  /** Its signature on the sets that it was shown. */
  async attest(actor: Actor, survivors: Survivors): Promise<Uint8Array> {
    const { signature } = answerOf(await actor.ask({ case: "survivors", value: survivors }), "attest");
    this.signatures.set(actor.name, signature);
    return signature;
  }

  /** What a corrupt device signs for whichever sets it is asked to. */
  signAs({ papers }: Corrupt, senders: readonly string[], survivors: readonly string[]): Uint8Array {
    const root = rosterRoot(this.roster().members);
    const sets = { root, senders: [...senders].sort(), survivors };
    return papers.key.sign(attestStatement(this.sid, sets));
  }

  attestations(signed: Signed, session = this.sid): Attestations {
    const list = signed.map(([device, signature]) => create(AttestationSchema, { device, signature }));
    return create(AttestationsSchema, { session, signed: list });
  }

  async reveal(actor: Actor, attestations: Attestations): Promise<RevealRequest> {
    const answer = answerOf(await actor.ask({ case: "attestations", value: attestations }), "reveal");
    this.revealed.set(actor.name, answer);
    return answer;
  }

  /** A secret from what was revealed and from what corrupt holders know; too few shares make a wrong one. */
  async secret(kind: Kind, of: string, requests = [...this.revealed.values()]): Promise<Uint8Array> {
    const shares: Uint8Array<ArrayBuffer>[] = requests.flatMap((request) =>
      request.shares.flatMap(({ of: name, share }) =>
        name === of && share.case === kind ? [Uint8Array.from(share.value)] : [],
      ),
    );
    for (const one of this.corrupt) shares.push(Uint8Array.from(this.heldBy(one, of)[`${kind}Share`]));
    return await combine(shares.slice(0, Math.max(2, this.threshold)));
  }

  /** Both shares of `of` that a corrupt device holds. */
  heldBy(one: Corrupt, of: string) {
    const envelope = this.shared.get(of)!.envelopes.find(({ to }) => to === one.name)!;
    return one.sharesIn(envelope, this.adverts.get(of)!, this.shared.get(of)!.session);
  }

  /** The pair mask's key of two devices, from the mask key of one of them. */
  pair(secret: Uint8Array, [of, other]: readonly [string, string], sid = this.sid): Uint8Array {
    return pairKey(agreedWith(secret, this.adverts.get(other)!.maskKey), sid, [of, other]);
  }

  /** What is left of an upload when these masks come off: seed of its own, key of each pair. */
  bare(of: string, masks: { seed?: Uint8Array; pairs: ReadonlyMap<string, Uint8Array> }): Uint32Array {
    const { bits, length } = this.terms;
    const y = unpackBits(this.packed.get(of)!, bits, length);
    const session = this.shared.get(of)!.session;
    const pairs = [...masks.pairs].map(([other, key]) => ({ key, sign: pairSign(of, other) }));
    const own = masks.seed ? [{ key: selfKey(masks.seed, session, of), sign: 1 } as const] : [];
    removeMasks(y, [...own, ...pairs]);
    return low(y, bits);
  }

  /** The sum over these, from seeds as they were revealed: what a coordinator is meant to learn. */
  async opened(devices: readonly string[]): Promise<Uint32Array> {
    const parts = devices.map(
      async (of) => [1, this.bare(of, { seed: await this.secret("seed", of), pairs: new Map() })] as const,
    );
    return combined(this.terms.bits, ...(await Promise.all(parts)));
  }

  /** The keys of all pair masks that `of` has with corrupt devices. */
  corruptPairs(of: string): Map<string, Uint8Array> {
    const session = this.shared.get(of)!.session;
    return new Map(
      this.corrupt.map((one) => [one.name, one.pairWith(of, this.adverts.get(of)!, session)] as const),
    );
  }
}

const OPEN = "tutti.v1.OpenSession";

/** Sums and differences of vectors in the ring of 2^bits. */
export function combined(bits: number, ...parts: readonly (readonly [1 | -1, Uint32Array])[]): Uint32Array {
  const sum = new Uint32Array(parts[0]![1].length);
  for (const [sign, words] of parts)
    for (const [at, word] of words.entries()) sum[at] = sum[at]! + sign * word;
  return low(sum, bits);
}

function low(words: Uint32Array, bits: number): Uint32Array {
  return bits === 32 ? words : words.map((word) => word & (2 ** bits - 1));
}

export function equalWords(a: Uint32Array, b: Uint32Array): boolean {
  return a.length === b.length && a.every((word, at) => word === b[at]);
}
