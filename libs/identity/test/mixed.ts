import { createHash } from "node:crypto";
import { ed25519 } from "@noble/curves/ed25519.js";
import fc from "fast-check";

const { Point } = ed25519;
const ORDER = Point.Fn.ORDER;
const little = (bytes: Uint8Array) => BigInt(`0x${Buffer.from(bytes).reverse().toString("hex") || "0"}`);
const wide = (...parts: Uint8Array[]) => {
  const hash = createHash("sha512");
  for (const part of parts) hash.update(part);
  return little(hash.digest()) % ORDER;
};

/** A point of order 8 (Chalkias, Garillot, Nikolaenko 2020, Table 1). */
const EIGHTH = Point.fromHex("26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc05");

export type Signed = { publicKey: Uint8Array; message: Uint8Array; signature: Uint8Array };

/**
 * Signatures whose key and R have a part of small order, `key`/8 and `nonce`/8 of the way round: 0 is none,
 * and with both 0 the signature is good. S is as in RFC 8032 section 5.1.6, so the equation times 8 always
 * holds.
 */
export function sign(seed: bigint, message: Uint8Array, part: { key: number; nonce: number }): Signed {
  const secret = (seed % (ORDER - 1n)) + 1n;
  const nonce = (wide(message, Uint8Array.of(part.nonce)) % (ORDER - 1n)) + 1n;
  const add = (scalar: bigint, eighths: number) => {
    const small = Array.from({ length: eighths }, () => EIGHTH).reduce(
      (sum, one) => sum.add(one),
      Point.ZERO,
    );
    return Point.BASE.multiply(scalar).add(small).toBytes();
  };
  const publicKey = add(secret, part.key);
  const r = add(nonce, part.nonce);
  const s = (nonce + wide(r, publicKey, message) * secret) % ORDER;
  const signature = new Uint8Array(64);
  signature.set(r);
  signature.set(Buffer.from(s.toString(16).padStart(64, "0"), "hex").reverse(), 32);
  return { publicKey, message, signature };
}

/** Any of them, together with whether it is good. */
export const mixed = fc
  .record({
    seed: fc.bigInt({ min: 0n, max: 2n ** 252n }),
    message: fc.uint8Array({ maxLength: 20 }),
    key: fc.oneof(fc.constant(0), fc.nat(7)),
    nonce: fc.oneof(fc.constant(0), fc.nat(7)),
  })
  .map(({ seed, message, key, nonce }) => {
    return { ...sign(seed, message, { key, nonce }), good: key === 0 && nonce === 0, soundKey: key === 0 };
  });
