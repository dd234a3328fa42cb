import { createPrivateKey, createPublicKey, sign as signNative, verify as verifyNative } from "node:crypto";
import { platformRandom } from "@tutti/foundation/random";
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { isSoundKey, newSeed, signingKey, verify } from "../src/keys.ts";
import { mixed } from "./mixed.ts";

const hex = (text: string) => new Uint8Array(Buffer.from(text, "hex"));
const bytes = (length: number) => fc.uint8Array({ minLength: length, maxLength: length });

// RFC 8410's DER around 32 raw bytes.
const nativePrivate = (seed: Uint8Array) =>
  createPrivateKey({
    key: Buffer.concat([hex("302e020100300506032b657004220420"), seed]),
    format: "der",
    type: "pkcs8",
  });
const nativeVerify = (key: Uint8Array, message: Uint8Array, signature: Uint8Array) => {
  const der = Buffer.concat([hex("302a300506032b6570032100"), key]);
  return verifyNative(null, message, createPublicKey({ key: der, format: "der", type: "spki" }), signature);
};

/** RFC 8032 section 7.1: seed, public key, message, signature. */
const VECTORS = [
  [
    "9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60",
    "d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a",
    "",
    "e5564300c360ac729086e2cc806e828a84877f1eb8e5d974d873e06522490155" +
      "5fb8821590a33bacc61e39701cf9b46bd25bf5f0595bbe24655141438e7a100b",
  ],
  [
    "4ccd089b28ff96da9db6c346ec114e0f5b8a319f35aba624da8cf6ed4fb8a6fb",
    "3d4017c3e843895a92b70aa74d1b7ebc9c982ccf2ec4968cc0cd55f12af4660c",
    "72",
    "92a009a9f0d4cab8720e820b5f642540a2b27b5416503f8fb3762223ebdb69da" +
      "085ac1e43e15996e458f3613d0f11d8c387b2eaeb4302aeeb00d291612bb0c00",
  ],
  [
    "c5aa8df43f9f837bedb7442f31dcb7b166d38535076f094b85ce3a2e0b4458f7",
    "fc51cd8e6218a1a38da47ed00230f0580816ed13ba3303ac5deb911548908025",
    "af82",
    "6291d657deec24024827e69c3abe01a30ce548a284743a445e3680d7db5ac3ac" +
      "18ff9b538d16f290ae67f760984dc6594a7c15e9716ed28dc027beceea1ec40a",
  ],
] as const;

describe("Ed25519", () => {
  test.each(VECTORS)("RFC 8032 section 7.1, seed %s", (seed, publicKey, message, signature) => {
    const key = signingKey(hex(seed));
    expect(key.publicKey).toEqual(hex(publicKey));
    expect(key.sign(hex(message))).toEqual(hex(signature));
    expect(verify(hex(publicKey), hex(message), hex(signature))).toBe(true);
  });

  test("the first two of those seeds with node:crypto, so that a slip in copying shows", () => {
    for (const [seed, , message] of VECTORS) {
      const signature = signNative(null, hex(message), nativePrivate(hex(seed)));
      expect(signingKey(hex(seed)).sign(hex(message))).toEqual(new Uint8Array(signature));
    }
  });

  test("node:crypto and the portable one agree, on good signatures and on any with a bit flipped", () => {
    fc.assert(
      fc.property(bytes(32), fc.uint8Array({ maxLength: 60 }), fc.nat(767), (seed, message, bit) => {
        const key = signingKey(seed);
        const signature = key.sign(message);
        expect(verify(key.publicKey, message, signature)).toBe(true);
        expect(nativeVerify(key.publicKey, message, signature)).toBe(true);
        const flipped = new Uint8Array([...key.publicKey, ...signature]);
        flipped[bit >> 3]! ^= 1 << (bit & 7);
        const [otherKey, other] = [flipped.subarray(0, 32), flipped.subarray(32)];
        expect(verify(otherKey, message, other)).toBe(false);
        expect(nativeVerify(otherKey, message, other)).toBe(false);
      }),
      { numRuns: 60 },
    );
  });

  test("S + L, which some verifiers take, is refused by both", () => {
    const L = 2n ** 252n + 27742317777372353535851937790883648493n;
    const key = signingKey(newSeed(platformRandom()));
    const signature = key.sign(hex("01"));
    const s = BigInt(`0x${Buffer.from(signature.subarray(32)).reverse().toString("hex")}`) + L;
    const second = signature.slice();
    second.set(Buffer.from(s.toString(16).padStart(64, "0"), "hex").reverse(), 32);
    expect(verify(key.publicKey, hex("01"), second)).toBe(false);
    expect(nativeVerify(key.publicKey, hex("01"), second)).toBe(false);
  });

  test("a key of small order, for which R = S·B verifies anything, is refused in any spelling", () => {
    const identity = new Uint8Array(32);
    identity[0] = 1;
    const forged = new Uint8Array(64);
    forged[0] = 1;
    expect(verify(identity, hex("01"), forged)).toBe(false);
    // y = 1 again, written as p + 1.
    const spelled = new Uint8Array(32).fill(0xff);
    spelled[0] = 0xee;
    spelled[31] = 0x7f;
    expect(verify(spelled, hex("01"), forged)).toBe(false);
  });

  test("never throws, whatever comes", () => {
    const any = fc.uint8Array({ maxLength: 80 });
    fc.assert(
      fc.property(any, any, any, (key, message, signature) => !verify(key, message, signature)),
      {
        numRuns: 200,
      },
    );
    fc.assert(
      fc.property(bytes(32), bytes(64), (key, signature) => !verify(key, hex("01"), signature)),
      {
        numRuns: 50,
      },
    );
  });

  test("a seed is 32 bytes, and the key keeps its own copy", () => {
    expect(() => signingKey(new Uint8Array(31))).toThrow("Ed25519 seed: expected 32 bytes, got 31");
    const seed = newSeed(platformRandom());
    const key = signingKey(seed);
    const before = key.sign(hex("01"));
    seed.fill(0);
    expect(key.sign(hex("01"))).toEqual(before);
  });
});

test("a key or an R with a part of small order is not good, though the equation times 8 holds", () => {
  fc.assert(
    fc.property(mixed, ({ publicKey, message, signature, good, soundKey }) => {
      expect(isSoundKey(publicKey)).toBe(soundKey);
      expect(verify(publicKey, message, signature)).toBe(good);
      // OpenSSL checks without the 8, but does not look at the key itself.
      if (soundKey) expect(nativeVerify(publicKey, message, signature)).toBe(good);
    }),
    { numRuns: 60 },
  );
});
