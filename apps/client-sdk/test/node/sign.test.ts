import { platformRandom } from "@tutti/foundation/random";
import { newSeed, signingKey, verify } from "@tutti/identity/keys";
import fc from "fast-check";
import { expect, test } from "vitest";
import { nativeSigningKey } from "../../src/node/sign.ts";

test("OpenSSL's signatures are the portable code's, byte for byte", () => {
  const random = platformRandom();
  fc.assert(
    fc.property(fc.uint8Array({ maxLength: 300 }), (message) => {
      const seed = newSeed(random);
      const [native, portable] = [nativeSigningKey(seed), signingKey(seed)];
      const signature = native.sign(message);
      expect(native.publicKey).toEqual(portable.publicKey);
      expect(signature).toEqual(portable.sign(message));
      expect(verify(native.publicKey, message, signature)).toBe(true);
    }),
    { numRuns: 20 },
  );
});

test("a seed of another length is refused", () => {
  expect(() => nativeSigningKey(new Uint8Array(31))).toThrow("Ed25519 seed: expected 32 bytes, got 31");
});
