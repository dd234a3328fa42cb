import { X509Certificate } from "node:crypto";
import { hex } from "@tutti/foundation/bytes";
import { platformRandom } from "@tutti/foundation/random";
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { newSeed, signingKey } from "../src/keys.ts";
import { selfSigned, selfSignedKey } from "../src/x509.ts";

const key = signingKey(newSeed(platformRandom()));

describe("a self-signed X.509 certificate of an Ed25519 key", () => {
  test("is read by OpenSSL, which finds the key in it and its signature good", () => {
    const read = new X509Certificate(selfSigned(key));
    const raw = read.publicKey.export({ format: "der", type: "spki" }).subarray(-32);
    expect(hex(raw)).toBe(hex(key.publicKey));
    expect(read.verify(read.publicKey)).toBe(true);
    expect(read.subject).toBe("CN=tutti");
    expect(new Date(read.validTo).getUTCFullYear()).toBe(9999);
  });

  test("gives its key back; nothing else does", () => {
    const der = selfSigned(key);
    expect(selfSignedKey(der)).toEqual(key.publicKey);
    fc.assert(
      fc.property(fc.nat(der.length - 1), fc.integer({ min: 1, max: 255 }), (at, flip) => {
        const other = der.slice();
        other[at]! ^= flip;
        const read = selfSignedKey(other);
        // A change outside the key and the signature, which nobody needs, is another kind of certificate.
        const inKey = at >= 97 && at < 129;
        expect(read === null).toBe(!inKey && at < der.length - 64);
        if (inKey) expect(read).not.toEqual(key.publicKey);
      }),
    );
    fc.assert(fc.property(fc.uint8Array({ maxLength: 400 }), (bytes) => selfSignedKey(bytes) === null));
  });
});
