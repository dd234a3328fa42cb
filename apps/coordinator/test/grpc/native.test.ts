import { fromHex } from "@tutti/foundation/bytes";
import { platformRandom } from "@tutti/foundation/random";
import { newSeed, signingKey, verify } from "@tutti/identity/keys";
import { agree, checkOrder, publicKeyOf } from "@tutti/secagg/agree";
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { mixed } from "../../../../libs/identity/test/mixed.ts";
import { nativeAgree as deviceAgree } from "../../../client-sdk/src/node/agree.ts";
import { nativeVerify as deviceVerify } from "../../../client-sdk/src/node/verify.ts";
import { nativeAgree, nativeVerify, rememberingVerify } from "../../src/native.ts";

/** L, the order of the base point (RFC 8032 section 5.1), little-endian. */
const ORDER = fromHex("edd3f55c1a631258d69cf7a2def9de1400000000000000000000000000000010");

describe("the platform's Ed25519 is the portable one", () => {
  test("good signatures, and any one byte changed", () => {
    const key = signingKey(newSeed(platformRandom()));
    fc.assert(
      fc.property(fc.uint8Array(), fc.nat(95), fc.integer({ min: 1, max: 255 }), (message, at, flip) => {
        const signature = key.sign(message);
        expect(nativeVerify(key.publicKey, message, signature)).toBe(true);
        const both = Uint8Array.from([...key.publicKey, ...signature]);
        both[at] = both[at]! ^ flip;
        const [otherKey, other] = [both.slice(0, 32), both.slice(32)];
        expect(nativeVerify(otherKey, message, other)).toBe(verify(otherKey, message, other));
      }),
    );
  });

  test("S + L is refused (malleability)", () => {
    const key = signingKey(newSeed(platformRandom()));
    const message = Uint8Array.of(1);
    const signature = key.sign(message);
    let carry = 0;
    for (let at = 0; at < 32; at++) {
      const sum = signature[32 + at]! + ORDER[at]! + carry;
      signature[32 + at] = sum & 255;
      carry = sum >> 8;
    }
    expect(nativeVerify(key.publicKey, message, signature)).toBe(false);
  });

  test("keys of small order, and y ≥ p, sign nothing", () => {
    const ys = [
      "00".repeat(32),
      `01${"00".repeat(31)}`,
      `ec${"ff".repeat(30)}7f`,
      "c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac037a",
      "26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc05",
      // p and p + 1: other encodings of 0 and 1.
      `ed${"ff".repeat(30)}7f`,
      `ee${"ff".repeat(30)}7f`,
    ];
    for (const y of ys)
      for (const sign of [0, 0x80])
        for (const r of ys) {
          const key = fromHex(y);
          key[31] = key[31]! | sign;
          // S = 0 and R of small order: good for one message in eight, or for all, where nobody checks the
          // key.
          const signature = Uint8Array.from([...fromHex(r), ...new Uint8Array(32)]);
          for (let message = 0; message < 16; message++) {
            const bytes = Uint8Array.of(message);
            expect(nativeVerify(key, bytes, signature)).toBe(false);
            expect(verify(key, bytes, signature)).toBe(false);
          }
        }
  });

  test("keys and nonces of mixed order: both platforms' answers are the portable one", () => {
    const device = deviceVerify();
    fc.assert(
      fc.property(mixed, ({ publicKey, message, signature, good }) => {
        // Twice: the second time the key is known.
        for (const answer of [nativeVerify, nativeVerify, device, device, verify])
          expect(answer(publicKey, message, signature)).toBe(good);
      }),
      { numRuns: 50 },
    );
  });

  test("what was good is remembered as it was, and a bad one is not remembered as good", () => {
    const key = signingKey(newSeed(platformRandom()));
    fc.assert(
      fc.property(fc.uint8Array(), fc.nat(95), fc.integer({ min: 1, max: 255 }), (message, at, flip) => {
        let asked = 0;
        const remembering = rememberingVerify((...question) => ++asked > 0 && nativeVerify(...question));
        const signature = key.sign(message);
        const both = Uint8Array.from([...key.publicKey, ...signature]);
        both[at] = both[at]! ^ flip;
        for (let time = 0; time < 2; time++) {
          expect(remembering(key.publicKey, message, signature)).toBe(true);
          expect(remembering(both.slice(0, 32), message, both.slice(32))).toBe(false);
          expect(remembering(key.publicKey, Uint8Array.of(...message, 1), signature)).toBe(false);
        }
        // The good one once, the others each time.
        expect(asked).toBe(5);
      }),
    );
  });

  test("wrong lengths are not good, and throw nothing", () => {
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 40 }), fc.uint8Array({ maxLength: 80 }), (key, signature) => {
        expect(nativeVerify(key, new Uint8Array(), signature)).toBe(false);
      }),
    );
  });
});

describe.each([
  ["coordinator", nativeAgree],
  ["device", deviceAgree],
])("the platform's X25519 is the portable one: the %s's", (_whose, native) => {
  const bytes = fc.uint8Array({ minLength: 32, maxLength: 32 });

  test("any secret with any public key, canonical or not", () => {
    fc.assert(
      fc.property(bytes, bytes, (secret, theirs) => {
        expect(native(secret, theirs)).toEqual(agree(secret, theirs));
        expect(native(secret, publicKeyOf(theirs))).toEqual(agree(theirs, publicKeyOf(secret)));
      }),
    );
  });

  test("bytes that were written to since are another key", () => {
    const theirs = publicKeyOf(new Uint8Array(32).fill(5));
    const secret = new Uint8Array(32).fill(3);
    const first = native(secret, theirs);
    expect(native(secret, theirs)).toEqual(first);
    secret.fill(4);
    expect(native(secret, theirs)).toEqual(agree(secret, theirs));
    expect(native(secret, theirs)).not.toEqual(first);
  });

  test("points of small order are refused", () => {
    // 0, 1, the two of order 8, and p - 1 (RFC 7748, section 7, leaves the check to the protocol).
    const points = [
      "00".repeat(32),
      `01${"00".repeat(31)}`,
      "e0eb7a7c3b41b8ae1656e3faf19fc46ada098deb9c32b1fd866205165f49b800",
      "5f9c95bca3508c24b1d0b1559c83ef5b04445cc4581c8e86d8224eddd09f1157",
      `ec${"ff".repeat(30)}7f`,
    ];
    for (const point of points) {
      expect(agree(new Uint8Array(32).fill(7), fromHex(point))).toEqual(new Uint8Array(32));
      expect(() => checkOrder("key", fromHex(point), native)).toThrow(/key of full order/);
    }
  });

  test("keys of another length throw", () => {
    expect(() => native(new Uint8Array(31), new Uint8Array(32).fill(9))).toThrow();
    expect(() => native(new Uint8Array(32), new Uint8Array(31).fill(9))).toThrow();
  });
});
