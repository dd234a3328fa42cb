import { Fault } from "@tutti/foundation/fault";
import { create, decode, encode } from "@tutti/wire/message";
import { SignedEnvelopeSchema } from "@tutti/wire/release";
import { RevocationListSchema } from "@tutti/wire/standing";
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { signEnvelope } from "../src/dsse.ts";
import {
  checkGrown,
  MAX_REVOCATIONS,
  NO_REVOCATIONS,
  openRevocations,
  REVOCATIONS,
  revokedAmong,
  signRevocations,
  withRevoked,
} from "../src/revocations.ts";
import { openTlsCertificates, signTlsCertificates } from "../src/tls.ts";
import { COORDINATOR, NOW_S, OWNER, STRANGER, signer, TRUST } from "./federation.ts";

const serial = (byte: number) => Uint8Array.of(byte, byte);
const list = (...names: string[]) =>
  names.reduce((to, name, at) => withRevoked(to, { name, serial: serial(at), nowS: NOW_S }), NO_REVOCATIONS);

describe("revocations", () => {
  test("are signed by an owner, and hold everybody in order whatever order they came in", () => {
    const { list: opened, signer: by } = openRevocations(signRevocations(list("c", "a", "b"), OWNER), TRUST);
    expect(opened.revocations.map(({ name }) => name)).toEqual(["a", "b", "c"]);
    expect([opened.version, by.name]).toEqual([3, "owner-10"]);
    expect(withRevoked(opened, { name: "a", serial: serial(9), nowS: NOW_S }).revocations).toEqual(
      opened.revocations,
    );
  });

  test("by nobody else: a coordinator, a stranger to the authority, another kind of statement", () => {
    const { payload, payloadType } = signRevocations(list("a"), OWNER);
    expect(() => openRevocations(signEnvelope(payloadType, payload, COORDINATOR), TRUST)).toThrow("role");
    const stranger = signer("owner", 10, STRANGER);
    expect(() => openRevocations(signEnvelope(payloadType, payload, stranger), TRUST)).toThrow("authority");
    expect(() => openRevocations(signEnvelope("text/plain", payload, OWNER), TRUST)).toThrow("type");
  });

  test("only grow", () => {
    expect(() => checkGrown(list("a"), list("a", "b"))).not.toThrow();
    expect(() => checkGrown(NO_REVOCATIONS, list("a"))).not.toThrow();
    expect(() => checkGrown(list("a", "b"), list("a", "b"))).toThrow("a version after 2");
    expect(() => checkGrown(list("a"), list("b", "c"))).toThrow("a list without a");
  });

  test("find a device by its name whatever its certificate, and by its certificate whatever its name", () => {
    const party = (name: string, byte: number) => ({ name, serial: serial(byte) });
    expect(revokedAmong([party("x", 7), party("a", 8)], list("a", "b"))?.name).toBe("a");
    expect(revokedAmong([party("x", 7), party("y", 1)], list("a", "b"))?.name).toBe("y");
    expect(revokedAmong([party("x", 7), { name: "y", serial: new Uint8Array() }], list("a"))).toBe(undefined);
  });

  test("of a shape that is not ours are refused", () => {
    const bad = (change: object) =>
      encode(RevocationListSchema, create(RevocationListSchema, { ...list("a", "b"), ...change }));
    const [a, b] = list("a", "b").revocations;
    for (const payload of [
      bad({ version: 0 }),
      bad({ revocations: [b, a] }),
      bad({ revocations: [a, a] }),
      bad({ revocations: [{ ...a!, name: "a b" }] }),
      bad({ revocations: [{ ...a!, serial: new Uint8Array(65) }] }),
    ])
      expect(() => openRevocations(signEnvelope(REVOCATIONS, payload, OWNER), TRUST)).toThrow(Fault);
    const many = Array.from({ length: MAX_REVOCATIONS + 1 }, (_, at) => `d${String(at).padStart(6, "0")}`);
    const revocations = many.map((name) => ({ name, serial: serial(1), atS: 1 }));
    const large = create(RevocationListSchema, { version: 1, revocations });
    expect(() => signRevocations(large, OWNER)).toThrow("at most");
  });

  test("any bytes are a list or a Fault", () => {
    const whole = encode(SignedEnvelopeSchema, signRevocations(list("a", "b"), OWNER));
    const mutated = fc.tuple(fc.nat(whole.length - 1), fc.nat(255)).map(([at, byte]) => {
      const bytes = whole.slice();
      bytes[at] = byte;
      return bytes;
    });
    fc.assert(
      fc.property(fc.oneof(fc.uint8Array({ maxLength: 300 }), mutated), (bytes) => {
        try {
          const { list: opened } = openRevocations(decode(SignedEnvelopeSchema, bytes, 1 << 20), TRUST);
          expect(opened).toEqual(list("a", "b"));
        } catch (error) {
          expect(error).toBeInstanceOf(Fault);
        }
      }),
    );
  });
});

describe("TLS certificates of a coordinator", () => {
  const certificates = [Uint8Array.of(1, 2), Uint8Array.of(3)];
  const about = { version: 4, certificates, nowS: NOW_S };

  test("are signed by the coordinator's own key, which the authority vouches for", () => {
    const opened = openTlsCertificates(signTlsCertificates(about, COORDINATOR), TRUST);
    expect([opened.version, opened.certificates]).toEqual([4, certificates]);
    expect(() => openTlsCertificates(signTlsCertificates(about, OWNER), TRUST)).toThrow("role");
    const stranger = signer("coordinator", 11, STRANGER);
    expect(() => openTlsCertificates(signTlsCertificates(about, stranger), TRUST)).toThrow("authority");
  });

  test("are a few, of a sane size", () => {
    const bad = [
      { ...about, version: 0 },
      { ...about, certificates: [] },
      { ...about, certificates: Array.from({ length: 33 }, () => Uint8Array.of(1)) },
      { ...about, certificates: [new Uint8Array()] },
      { ...about, certificates: [new Uint8Array((16 << 10) + 1)] },
    ];
    for (const one of bad) expect(() => signTlsCertificates(one, COORDINATOR)).toThrow("TLS certificates");
  });
});
