import { create, decode, encode } from "@tutti/wire/message";
import { type EnvelopeBody, EnvelopeBodySchema } from "@tutti/wire/secagg";
import nacl from "tweetnacl";
import { SHARE_BYTES } from "./shares.ts";

/** Two names of 64 characters, two shares, and what protobuf and secretbox add: 218 bytes. */
export const MAX_SEALED_BYTES = 256;
/**
 * All zeros, and so not sent. A nonce keeps messages under one key apart; an envelope's key is made for it
 * alone, from this session's fresh keys and both names, and stage 1 is answered once (device/state.ts).
 */
const NONCE = new Uint8Array(nacl.secretbox.nonceLength);

export type Shares = Pick<EnvelopeBody, "maskKeyShare" | "seedShare">;
type Route = { readonly from: string; readonly to: string };

/** Both shares for one holder, under the key of this one envelope (Fig. 4, round 1). */
export function seal(key: Uint8Array, body: Route & Shares): Uint8Array {
  return nacl.secretbox(encode(EnvelopeBodySchema, create(EnvelopeBodySchema, body)), NONCE, key);
}

/** The shares inside, or null for an envelope that was altered, truncated, swapped or badly filled. */
export function open(key: Uint8Array, sealed: Uint8Array, route: Route): Shares | null {
  if (sealed.length > MAX_SEALED_BYTES) return null;
  const plain = nacl.secretbox.open(sealed, NONCE, key);
  const body = plain && decoded(plain);
  if (!body || body.from !== route.from || body.to !== route.to) return null;
  const { maskKeyShare, seedShare } = body;
  if (maskKeyShare.length !== SHARE_BYTES || seedShare.length !== SHARE_BYTES) return null;
  return { maskKeyShare: maskKeyShare.slice(), seedShare: seedShare.slice() };
}

function decoded(plain: Uint8Array): EnvelopeBody | null {
  try {
    return decode(EnvelopeBodySchema, plain, MAX_SEALED_BYTES);
  } catch {
    return null;
  }
}
