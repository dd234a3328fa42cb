import { canonical, equalBytes } from "@tutti/foundation/bytes";
import { demand } from "@tutti/foundation/check";
import { Fault } from "@tutti/foundation/fault";
import { sha256 } from "@tutti/foundation/hash";
import { packBits } from "@tutti/kernels/pack";
import { encode } from "@tutti/wire/message";
import { type Delivery, DeliverySchema, type Envelope } from "@tutti/wire/secagg";
import { open, type Shares } from "../envelope.ts";
import { checkSession } from "../group.ts";
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
  const vector = new Uint8Array(words.buffer, words.byteOffset, words.byteLength);
  const input = sha256(canonical("mask", sha256(encode(DeliverySchema, delivery)), sha256(vector)));
  const make = () => {
    if (state.stage !== "shared") throw outOfOrder(state, "shared");
    checkWords(words, state);
    return maskOver(state, checkDelivery(state, delivery), words);
  };
  return once(state, "mask", { input, make });
}

function maskOver(state: Shared, envelopes: ReadonlyMap<string, Envelope>, words: Uint32Array) {
  const { member, terms, vault, group, seed, pairKeys, openers } = state;
  const senders = [...envelopes.keys()].sort();
  const shares = new Map<string, Shares>();
  for (const [from, { sealed }] of envelopes) {
    const opened = open(openers.get(from)!, sealed, { from, to: member.name });
    if (!opened) continue;
    keep(vault, opened.maskKeyShare);
    keep(vault, opened.seedShare);
    shares.set(from, opened);
  }
  const own = keep(vault, selfKey(seed, group.sid, member.name));
  const masks = senders.map((name): Mask => {
    if (name === member.name) return { key: own, sign: 1 };
    return { key: pairKeys.get(name)!, sign: pairSign(member.name, name) };
  });
  const y = words.slice();
  addMasks(y, masks);
  // What made the mask goes with it: the others hold what opens the sum.
  drop(vault, [own, seed, ...pairKeys.values(), ...openers.values()]);
  const unreadable = senders.filter((name) => !shares.has(name));
  const masked: Masked = { stage: "masked", member, terms, vault, group, senders, shares, unreadable };
  return { state: masked, packed: packBits(y, terms.bits) };
}

/** U2: members only, each once, at least t of them, and this device's own envelope as it sent it. */
function checkDelivery({ member, group, request }: Shared, delivery: Delivery): Map<string, Envelope> {
  const refuse = (expected: string, got: string) => () => new Fault("refused", "delivery", { expected, got });
  checkSession("delivery", delivery.session, group.sid);
  const envelopes = new Map<string, Envelope>();
  for (const envelope of delivery.envelopes) {
    const { from, to } = envelope;
    demand(to === member.name, refuse("envelopes to this device", "one to another"));
    demand(group.parties.has(from), refuse("envelopes from members", "one from a stranger"));
    demand(!envelopes.has(from), refuse("one envelope from each", `two from ${from}`));
    envelopes.set(from, envelope);
  }
  demand(
    envelopes.size >= group.threshold,
    refuse(`at least ${group.threshold} senders`, `${envelopes.size}`),
  );
  const sent = request.envelopes.find(({ to }) => to === member.name)!;
  const back = envelopes.get(member.name);
  demand(
    back && equalBytes(back.sealed, sent.sealed),
    refuse("this device's own envelope", back ? "another" : "none"),
  );
  return envelopes;
}

function checkWords(words: Uint32Array, { terms }: Shared): void {
  const { length, bits } = terms;
  const refuse = (expected: string, got: string) => () => new Fault("bad-input", "vector", { expected, got });
  demand(words.length === length, refuse(`${length} words`, `${words.length}`));
  const most = 2 ** bits - 1;
  const outside = words.findIndex((word) => word > most);
  demand(outside < 0, refuse(`words of ${bits} bits`, `a larger one at ${outside}`));
}
