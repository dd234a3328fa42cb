import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { agree, checkOrder, checkPublicKey, publicKeyOf, sharedSecret } from "../src/agree.ts";
import { nativeAgree } from "./native.ts";

const hex = (text: string) => new Uint8Array(Buffer.from(text, "hex"));
const bytes = fc.uint8Array({ minLength: 32, maxLength: 32 });

/** 2^255 − 19 + `more`, little-endian. */
function primePlus(more: number): Uint8Array {
  const key = new Uint8Array(32).fill(0xff);
  key[0] = 0xed + more;
  key[31] = 0x7f;
  return key;
}

/**
 * u-coordinates of order 1, 2, 4 and 8 on curve and twist, canonical: those of RFC 7748 section 7's warning.
 */
const SMALL_ORDER = [
  hex("0000000000000000000000000000000000000000000000000000000000000000"),
  hex("0100000000000000000000000000000000000000000000000000000000000000"),
  hex("e0eb7a7c3b41b8ae1656e3faf19fc46ada098deb9c32b1fd866205165f49b800"),
  hex("5f9c95bca3508c24b1d0b1559c83ef5b04445cc4581c8e86d8224eddd09f1157"),
  primePlus(-1),
];

describe("X25519", () => {
  test("RFC 7748 section 6.1", () => {
    const alice = hex("77076d0a7318a57d3c16c17251b26645df4c2f87ebc0992ab177fba51db92c2a");
    const bob = hex("5dab087e624a8a4b79e17f8b83800ee66f3bb1292618b6fd1c2f8b27ff88e0eb");
    expect(publicKeyOf(alice)).toEqual(
      hex("8520f0098930a754748b7ddcb43ef75a0dbf3a0d26381af4eba4a98eaa9b4e6a"),
    );
    expect(publicKeyOf(bob)).toEqual(hex("de9edb7d7b7dc1b4d35b61c2ece435373f8343c85b78674dadfc7e146f882b4f"));
    const shared = hex("4a5d9d5ba4ce2de1728e3bf480350f25e07e21c947d19e3376f09b3c1e161742");
    expect(agree(alice, publicKeyOf(bob))).toEqual(shared);
    expect(agree(bob, publicKeyOf(alice))).toEqual(shared);
  });

  test("tweetnacl and node:crypto give the same bytes", () => {
    fc.assert(
      fc.property(bytes, bytes, (a, b) => {
        const theirs = publicKeyOf(b);
        expect(nativeAgree(a, theirs)).toEqual(agree(a, theirs));
      }),
      { numRuns: 50 },
    );
  });

  test("keys of small order: tweetnacl returns zeros, OpenSSL throws, both are refused by name", () => {
    const secret = new Uint8Array(32).fill(5);
    for (const theirs of SMALL_ORDER) {
      expect(agree(secret, theirs)).toEqual(new Uint8Array(32));
      expect(() => nativeAgree(secret, theirs)).toThrow();
      for (const agreeing of [agree, nativeAgree]) {
        expect(() => sharedSecret(agreeing, { secret, theirs }, "key of d01")).toThrow(
          "key of d01: expected an X25519",
        );
        expect(() => checkOrder("key of d01", theirs, agreeing)).toThrow("key of d01");
      }
    }
    expect(() => checkOrder("key", publicKeyOf(secret))).not.toThrow();
  });

  test("one key has one spelling: 32 bytes below 2^255 − 19", () => {
    for (const more of [0, 1, 18]) expect(() => checkPublicKey("key", primePlus(more))).toThrow("canonical");
    expect(() => checkPublicKey("key", primePlus(-1))).not.toThrow();
    const high = publicKeyOf(new Uint8Array(32).fill(5));
    expect(() => checkPublicKey("key", high)).not.toThrow();
    high[31]! |= 0x80;
    expect(() => checkPublicKey("key", high)).toThrow("canonical");
    expect(() => checkPublicKey("key", new Uint8Array(31))).toThrow("expected 32 bytes, got 31");
  });
});
