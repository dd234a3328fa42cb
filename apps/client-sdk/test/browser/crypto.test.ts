import { platformRandom } from "@tutti/foundation/random";
import { newSeed, signingKey, verify } from "@tutti/identity/keys";
import { agree, publicKeyOf } from "@tutti/secagg/agree";
import type { Check } from "@tutti/secagg/device/ahead";
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { mixed, sign } from "../../../../libs/identity/test/mixed.ts";
import { browserAgree } from "../../src/browser/agree.ts";
import { browserVerify } from "../../src/browser/verify.ts";
import { nativeVerify } from "../../src/node/verify.ts";

// Node has the same WebCrypto interface; a page's is met by claims/secagg/device-cost.

const random = platformRandom();
/** A platform's subtle crypto with one function changed. */
const changed = (change: Partial<SubtleCrypto>): SubtleCrypto =>
  Object.assign(Object.create(null), {
    importKey: crypto.subtle.importKey.bind(crypto.subtle),
    verify: crypto.subtle.verify.bind(crypto.subtle),
    deriveBits: crypto.subtle.deriveBits.bind(crypto.subtle),
    ...change,
  });

describe("Ed25519 by WebCrypto and by OpenSSL, each beside the portable code", () => {
  test("keys and nonces of mixed order, asked once and again: the same verdict", async () => {
    const [verifyAll, native] = [(await browserVerify())!, nativeVerify()];
    await fc.assert(
      fc.asyncProperty(mixed, async (check) => {
        const portable = verify(check.publicKey, check.message, check.signature);
        expect(portable).toBe(check.good);
        for (let again = 0; again < 2; again++) {
          expect(await verifyAll([check])).toEqual([portable]);
          expect(native(check.publicKey, check.message, check.signature)).toBe(portable);
        }
      }),
      { numRuns: 60 },
    );
  });

  test("a remembered verdict is for that key, message and signature alone", async () => {
    const verifyAll = (await browserVerify())!;
    const native = nativeVerify();
    const good = sign(5n, random.bytes(20), { key: 0, nonce: 0 });
    expect(await verifyAll([good])).toEqual([true]);
    expect(native(good.publicKey, good.message, good.signature)).toBe(true);
    const others = (["publicKey", "message", "signature"] as const).flatMap((field) =>
      Array.from(good[field], (_, at): Check => {
        const bytes = good[field].slice();
        bytes[at]! ^= 1;
        return { ...good, [field]: bytes };
      }),
    );
    const longer = { ...good, message: new Uint8Array([...good.message, 0]) };
    const all = [...others, longer, { ...good, signature: good.signature.subarray(1) }];
    expect(await verifyAll(all)).toEqual(all.map(() => false));
    for (const one of all) expect(native(one.publicKey, one.message, one.signature)).toBe(false);
  });

  test("what was good is not asked of the platform again", async () => {
    let asked = 0;
    const counting = changed({
      verify: (...given) => {
        asked++;
        return crypto.subtle.verify(...given);
      },
    });
    const verifyAll = (await browserVerify(counting))!;
    const probes = asked;
    const key = signingKey(newSeed(random));
    const message = random.bytes(300);
    const check = { publicKey: key.publicKey, message, signature: key.sign(message) };
    for (let again = 0; again < 3; again++) expect(await verifyAll([check])).toEqual([true]);
    expect(asked - probes).toBe(1);
    const bad = { ...check, message: random.bytes(300) };
    for (let again = 0; again < 3; again++) expect(await verifyAll([bad])).toEqual([false]);
    expect(asked - probes).toBe(4);
  });

  test("a platform without Ed25519, and one that is lax, are not used", async () => {
    const none = { importKey: () => Promise.reject(new DOMException("", "NotSupportedError")) };
    expect(await browserVerify(changed(none as never))).toBeNull();
    expect(await browserVerify(changed({ verify: () => Promise.resolve(true) }))).toBeNull();
    expect(await browserVerify(changed({ verify: () => Promise.resolve(false) }))).toBeNull();
  });
});

describe("X25519 by WebCrypto", () => {
  test("the portable bytes with many keys in their order, null for a point of small order", async () => {
    const agreeAll = (await browserAgree())!;
    const secret = random.bytes(32);
    const theirs = Array.from({ length: 20 }, () => publicKeyOf(random.bytes(32)));
    const expected = theirs.map((key) => agree(secret, key));
    expect(await agreeAll(secret, theirs)).toEqual(expected);
    const zero = new Uint8Array(32);
    expect(await agreeAll(secret, [theirs[0]!, zero, theirs[1]!])).toEqual([expected[0], null, expected[1]]);
  });

  test("a platform without it is not used", async () => {
    const none = { importKey: () => Promise.reject(new DOMException("", "NotSupportedError")) };
    expect(await browserAgree(changed(none as never))).toBeNull();
  });
});
