import { checkBytes, demand } from "@tutti/foundation/check";
import { Fault } from "@tutti/foundation/fault";
import nacl from "tweetnacl";

/** X25519 (RFC 7748 section 5): 32 bytes from a secret and a public key; a platform may pass a faster one. */
export type Agree = (secretKey: Uint8Array, publicKey: Uint8Array) => Uint8Array;

/** One secret with many public keys, in their order; null for a point that the platform refuses. */
export type AgreeAll = (
  secretKey: Uint8Array,
  publicKeys: readonly Uint8Array[],
) => Promise<readonly (Uint8Array | null)[]>;

/**
 * Portable X25519. It returns all zeros for a point of small order: call `sharedSecret`, which refuses them.
 */
export const agree: Agree = (secretKey, publicKey) => nacl.scalarMult(secretKey, publicKey);

/** RFC 7748 section 4.1: u = 9. */
const BASE = Uint8Array.from({ length: 32 }, (_, at) => (at === 0 ? 9 : 0));

/** The public key of a 32-byte secret: what it agrees on with the base point. */
export function publicKeyOf(secretKey: Uint8Array, agreeing: Agree = agree): Uint8Array {
  return agreeing(secretKey, BASE);
}

/**
 * What two parties share, never all zeros (RFC 7748 section 6.1): a point of small order would make it known
 * to all.
 * @throws Fault("refused") naming `whose` key it is.
 */
export function sharedSecret(
  agreeing: Agree,
  keys: { secret: Uint8Array; theirs: Uint8Array },
  whose: string,
): Uint8Array {
  const shared = tried(agreeing, keys);
  demand(shared !== null && !isZero(shared), () => weak(whose));
  return shared;
}

/**
 * `sharedSecret` with each of many, by `agreeAll` where a platform has one.
 * @throws Fault("refused") naming the first key of small order, as `names` says.
 */
export async function sharedSecrets(
  { agree: agreeing = agree, agreeAll }: { agree?: Agree; agreeAll?: AgreeAll },
  keys: { secret: Uint8Array; theirs: readonly Uint8Array[] },
  names: readonly string[],
): Promise<Uint8Array[]> {
  const { secret, theirs } = keys;
  if (!agreeAll) return theirs.map((key, at) => sharedSecret(agreeing, { secret, theirs: key }, names[at]!));
  const shared = await agreeAll(secret, theirs);
  return theirs.map((_, at) => {
    const each = shared[at] ?? null;
    demand(each !== null && !isZero(each), () => weak(names[at]!));
    return each;
  });
}

/** A door check: 32 bytes in the canonical encoding, below 2^255 − 19, so that one key has one spelling. */
export function checkPublicKey(whose: string, key: Uint8Array): void {
  checkBytes(whose, key, 32);
  const good = key[31]! < 0x7f || (key[31] === 0x7f && !isPrimeOrMore(key));
  demand(good, () => new Fault("refused", whose, { expected: "a canonical X25519 key", got: "another" }));
}

/**
 * Refuses a key of small order without a secret at hand: clamping makes any scalar a multiple of 8, the
 * cofactor, so the product is zero exactly for these.
 */
export function checkOrder(whose: string, key: Uint8Array, agreeing: Agree = agree): void {
  sharedSecret(agreeing, { secret: PROBE, theirs: key }, whose);
}

const PROBE = new Uint8Array(32).fill(1);

function isZero(bytes: Uint8Array): boolean {
  return bytes.every((byte) => byte === 0);
}

/** For a key that ends in 7f: whether it is in 2^255 − 19 .. 2^255 − 1. */
function isPrimeOrMore(key: Uint8Array): boolean {
  return key[0]! >= 0xed && key.subarray(1, 31).every((byte) => byte === 0xff);
}

/** OpenSSL throws where tweetnacl returns zeros. */
function tried(agreeing: Agree, { secret, theirs }: { secret: Uint8Array; theirs: Uint8Array }) {
  try {
    return agreeing(secret, theirs);
  } catch {
    return null;
  }
}

function weak(whose: string): Fault {
  return new Fault("refused", whose, { expected: "an X25519 key of full order", got: "one of small order" });
}
