import { concat } from "@tutti/foundation/bytes";
import type { SecretRandom } from "@tutti/foundation/random";
import { create, decode, encode } from "@tutti/wire/message";
import { type EnvelopeBody, EnvelopeBodySchema } from "@tutti/wire/secagg";
import nacl from "tweetnacl";
import { SHARE_BYTES } from "./shares.ts";

/** Two names of 64 characters, two shares, and what protobuf and secretbox add: 242 bytes. */
export const MAX_SEALED_BYTES = 256;
const NONCE_BYTES = nacl.secretbox.nonceLength;

export type Shares = Pick<EnvelopeBody, "maskKeyShare" | "seedShare">;
type Route = { readonly from: string; readonly to: string };

/** Both shares for one holder, under the key of this one envelope: nonce, then box (Fig. 4, round 1). */
export function seal(key: Uint8Array, body: Route & Shares, random: SecretRandom): Uint8Array {
  const nonce = random.bytes(NONCE_BYTES);
  return concat(
    nonce,
    nacl.secretbox(encode(EnvelopeBodySchema, create(EnvelopeBodySchema, body)), nonce, key),
  );
}

/** The shares inside, or null for an envelope that was altered, truncated, swapped or badly filled. */
export function open(key: Uint8Array, sealed: Uint8Array, route: Route): Shares | null {
  if (sealed.length <= NONCE_BYTES || sealed.length > MAX_SEALED_BYTES) return null;
  const plain = nacl.secretbox.open(sealed.subarray(NONCE_BYTES), sealed.subarray(0, NONCE_BYTES), key);
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
