import { platformRandom } from "@tutti/foundation/random";
import { RequestAuthSchema } from "@tutti/wire/device";
import { create } from "@tutti/wire/message";
import { describe, expect, test } from "vitest";
import { newSeed, signingKey } from "../src/keys.ts";
import { MAX_REQUEST_MS, signRequest, verifyRequest } from "../src/request.ts";

const random = platformRandom();
const key = signingKey(newSeed(random));
const NOW_MS = 1_000_000;
const claims = {
  name: "ward-7",
  session: random.bytes(16),
  method: "/tutti.v1.Federation/Ready",
  bodyHash: random.bytes(32),
  nonce: random.bytes(16),
  expiresMs: NOW_MS + 1000,
};
const { method, bodyHash, session } = claims;
const given = { publicKey: key.publicKey, method, bodyHash, session, nowMs: NOW_MS };
const auth = signRequest(key, claims);

describe("signed requests", () => {
  test("a request passes as it was signed", () => {
    expect(() => verifyRequest(auth, given)).not.toThrow();
  });

  test("and for no other name, method, body, session, nonce, expiry or key", () => {
    const refused = (change: object, said: object = {}) =>
      expect(() => verifyRequest(create(RequestAuthSchema, { ...auth, ...said }), { ...given, ...change }));
    refused({}, { name: "ward-8" }).toThrow("request by ward-8: expected its own signature");
    refused({ method: "/tutti.v1.Admin/Stop" }).toThrow("its own signature");
    refused({ bodyHash: random.bytes(32) }).toThrow("its own signature");
    refused({ session: random.bytes(16) }).toThrow("expected the session in use");
    refused({}, { nonce: random.bytes(16) }).toThrow("its own signature");
    refused({}, { nonce: random.bytes(15) }).toThrow("expected a nonce of 16 bytes, got 15");
    refused({}, { expiresMs: NOW_MS + 2000 }).toThrow("its own signature");
    refused({ publicKey: signingKey(newSeed(random)).publicKey }).toThrow("its own signature");
  });

  test("nor once it has expired, nor with an expiry that is far away or no number", () => {
    expect(() => verifyRequest(auth, { ...given, nowMs: claims.expiresMs })).toThrow(
      "expected an expiry within",
    );
    const patient = signRequest(key, { ...claims, expiresMs: NOW_MS + MAX_REQUEST_MS + 1 });
    expect(() => verifyRequest(patient, given)).toThrow("expected an expiry within");
    for (const expiresMs of [Number.NaN, Number.POSITIVE_INFINITY, -1]) {
      expect(() => verifyRequest(create(RequestAuthSchema, { ...auth, expiresMs }), given)).toThrow(
        "expected an expiry",
      );
    }
  });

  test("a fraction of a millisecond is not signed apart, so it is no second request", () => {
    const fraction = create(RequestAuthSchema, { ...auth, expiresMs: auth.expiresMs + 0.5 });
    expect(() => verifyRequest(fraction, given)).not.toThrow();
  });
});
