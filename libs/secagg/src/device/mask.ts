import { equalBytes } from "@tutti/foundation/bytes";
import { demand } from "@tutti/foundation/check";
import { Fault } from "@tutti/foundation/fault";
import { packBits } from "@tutti/kernels/pack";
import { encode } from "@tutti/wire/message";
import { type Delivery, DeliverySchema, type Envelope } from "@tutti/wire/secagg";
import { open, type Shares } from "../envelope.ts";
import { checkSession, isAscending } from "../group.ts";
import { selfKey } from "../keys.ts";
import { addMasks, type Mask, pairSign } from "../mask.ts";
import { type DeviceState, drop, keep, type Masked, once, outOfOrder, type Shared } from "./state.ts";

export type { Masked };

/**
 * Stage 2 (Fig. 4, round 2): U2 is whom the device has envelopes from; y = x + PRG(self key) + Σ ±PRG(pair
 * key), over U2. `words` are `terms.length` words below 2^bits and stay as they are; `packed` is y's low
 * bits. An envelope that does not open is listed in the state and costs its sender one share; it ends
 * nothing.
 * @throws Fault("refused") for a delivery that is not a U2, Fault("bad-input") for words outside the ring.
 */
export function mask(
  state: DeviceState,
  delivery: Delivery,
  words: Uint32Array,
): { state: Masked; packed: Uint8Array } {
  // The words too: two vectors under one mask would show their difference.
  const input = { encoded: () => encode(DeliverySchema, delivery), words };
  const make = () => {
    if (state.stage !== "shared") throw outOfOrder(state, "shared");
    checkWords(words, state);
    return maskOver(state, { ...checkDelivery(state, delivery), words });
  };
  return once(state, "mask", { input, make });
}

type Delivered = {
  /** U2, ascending. */
  readonly senders: readonly string[];
  /** From those of them whose shares this device holds. */
  readonly envelopes: ReadonlyMap<string, Envelope>;
};

function maskOver(state: Shared, { senders, envelopes, words }: Delivered & { words: Uint32Array }) {
  const { member, terms, vault, group, seed, pairKeys, openers } = state;
  const shares = new Map<string, Shares>();
  for (const [from, { sealed }] of envelopes) {
    const opened = open(openers.get(from)!, sealed, { from, to: member.name });
    if (!opened) continue;
    keep(vault, opened.maskKeyShare);
    keep(vault, opened.seedShare);
    shares.set(from, opened);
  }
  const own = keep(vault, selfKey(seed, group.sid, member.name));
  const masks: Mask[] = [{ key: own, sign: 1 }];
  for (const name of senders) {
    const key = pairKeys.get(name);
    if (key) masks.push({ key, sign: pairSign(member.name, name) });
  }
  const y = words.slice();
  addMasks(y, masks);
  // What made the mask goes with it: the others hold what opens the sum.
  drop(vault, [own, seed, ...pairKeys.values(), ...openers.values()]);
  const unreadable = [...envelopes.keys()].filter((name) => !shares.has(name));
  const masked: Masked = { stage: "masked", member, terms, vault, group, senders, shares, unreadable };
  return { state: masked, packed: packBits(y, terms.bits) };
}

/**
 * U2: members only, each once, enough of them, and this device as it shared.
 * @throws Fault("refused") naming what is wrong.
 */
export function checkDelivery(shared: Shared, delivery: Delivery): Delivered {
  const { member, group, openers } = shared;
  const refuse = (expected: string, got: string) => () => new Fault("refused", "delivery", { expected, got });
  checkSession("delivery", delivery.session, group.sid);
  const envelopes = new Map<string, Envelope>();
  for (const envelope of delivery.envelopes) {
    const { from, to } = envelope;
    demand(to === member.name, refuse("envelopes to this device", "one to another"));
    demand(openers.has(from), refuse("envelopes from members", "one from a stranger"));
    demand(!envelopes.has(from), refuse("one envelope from each", `two from ${from}`));
    envelopes.set(from, envelope);
  }
  const full = group.graph.picked === null;
  const senders = full ? [...envelopes.keys()].sort() : listedSenders(shared, delivery, envelopes);
  demand(senders.length >= group.least, refuse(`at least ${group.least} senders`, `${senders.length}`));
  if (full) checkOwnEnvelope(shared, envelopes.get(member.name));
  return { senders, envelopes };
}

/** On a sparse graph U2 is the coordinator's list, and must agree with the envelopes that came. */
function listedSenders(
  { member, group, openers }: Shared,
  { senders }: Delivery,
  envelopes: ReadonlyMap<string, Envelope>,
): string[] {
  const refuse = (expected: string, got: string) => () => new Fault("refused", "senders", { expected, got });
  demand(isAscending(senders), refuse("each name once, ascending", "another order"));
  const listed = new Set(senders);
  demand(
    senders.every((name) => group.parties.has(name)),
    refuse("members", "a stranger"),
  );
  demand(listed.has(member.name), refuse("this device among them", "a list without it"));
  const odd = [...openers.keys()].find((name) => listed.has(name) !== envelopes.has(name));
  demand(
    odd === undefined,
    refuse("an envelope from each sender that picked this device", `${odd} listed or sent, not both`),
  );
  return [...senders];
}

function checkOwnEnvelope({ member, request }: Shared, back: Envelope | undefined): void {
  const sent = request.envelopes.find(({ to }) => to === member.name)!;
  const got = back ? "another" : "none";
  demand(
    back && equalBytes(back.sealed, sent.sealed),
    () => new Fault("refused", "delivery", { expected: "this device's own envelope", got }),
  );
}

function checkWords(words: Uint32Array, { terms }: Shared): void {
  const { length, bits } = terms;
  const refuse = (expected: string, got: string) => () => new Fault("bad-input", "vector", { expected, got });
  demand(words.length === length, refuse(`${length} words`, `${words.length}`));
  const most = 2 ** bits - 1;
  const outside = words.findIndex((word) => word > most);
  demand(outside < 0, refuse(`words of ${bits} bits`, `a larger one at ${outside}`));
}
