import { platformRandom } from "@tutti/foundation/random";
import { type Certificate, CertificateSchema } from "@tutti/wire/device";
import { create } from "@tutti/wire/message";
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { bind, issue, type Statement, verifyCertificate } from "../src/certificate.ts";
import { newSeed, signingKey } from "../src/keys.ts";

const random = platformRandom();
const newKey = () => signingKey(newSeed(random));
const authority = newKey();
const other = newKey();
const token = newKey();
const device = newKey();
const owner = newKey();

const NOW_S = 1_800_000_000;
const statement: Statement = {
  role: "device",
  name: "ward-7",
  publicKey: token.publicKey,
  notBeforeS: NOW_S - 10,
  notAfterS: NOW_S + 10,
  serial: Uint8Array.of(1, 2, 3),
  labels: { site: "north" },
};
const grant = issue(authority, statement);
const good = bind(grant, token, device.publicKey);
const trust = { authority: authority.publicKey, role: "device", nowS: NOW_S } as const;

describe("certificates", () => {
  test("a device's two links say who it is and which key signs for it", () => {
    expect(verifyCertificate(good, trust)).toEqual({
      name: "ward-7",
      role: "device",
      labels: { site: "north" },
      publicKey: device.publicKey,
      notAfterS: NOW_S + 10,
      serial: Uint8Array.of(1, 2, 3),
      site: "",
      siteLimit: 0,
      enrolBeforeS: 0,
    });
  });

  test("an owner is certified directly", () => {
    const certificate = issue(authority, { ...statement, role: "owner", publicKey: owner.publicKey });
    expect(verifyCertificate(certificate, { ...trust, role: "owner" }).publicKey).toEqual(owner.publicKey);
    const extra = bind(certificate, owner, device.publicKey);
    expect(() => verifyCertificate(extra, { ...trust, role: "owner" })).toThrow("expected no second link");
  });

  test("each broken link is named", () => {
    const at = (change: Partial<typeof trust> | { nowS: number }) => () =>
      verifyCertificate(good, { ...trust, ...change });
    expect(at({ nowS: NOW_S + 10 })).not.toThrow();
    expect(at({ nowS: NOW_S + 11 })).toThrow(
      "certificate of ward-7: expected one that is still valid, got expired 20",
    );
    expect(at({ nowS: NOW_S - 11 })).toThrow("expected one that is already valid");
    expect(() => verifyCertificate(good, { ...trust, authority: other.publicKey })).toThrow(
      "expected authority",
    );
    expect(() => verifyCertificate(good, { ...trust, role: "owner" })).toThrow(
      "expected role owner, got device",
    );
    expect(() => verifyCertificate(grant, trust)).toThrow("expected a device key of 32 bytes, got 0");
    const stolen = bind(grant, other, device.publicKey);
    expect(() => verifyCertificate(stolen, trust)).toThrow("expected the token's binding");
    const moved = create(CertificateSchema, { ...good, subjectKey: other.publicKey });
    expect(() => verifyCertificate(moved, trust)).toThrow("expected the token's binding");
  });

  test("a coordinator that names the authority without its key invents nobody", () => {
    const forged = issue({ publicKey: authority.publicKey, sign: other.sign }, statement);
    const invented = bind(forged, token, device.publicKey);
    expect(() => verifyCertificate(invented, trust)).toThrow("expected the authority's signature");
  });

  test("a binding belongs to one statement: it does not move to another of the same token", () => {
    const renewed = issue(authority, { ...statement, notAfterS: NOW_S + 1000 });
    const mixed = create(CertificateSchema, {
      ...renewed,
      subjectKey: good.subjectKey,
      binding: good.binding,
    });
    expect(() => verifyCertificate(mixed, trust)).toThrow("expected the token's binding");
  });

  test("any bit flipped anywhere is refused", () => {
    const fields = ["body", "signature", "subjectKey", "binding"] as const;
    fc.assert(
      fc.property(fc.constantFrom(...fields), fc.nat(), (field, at) => {
        const certificate: Certificate = structuredClone(good);
        const bit = at % (8 * certificate[field].length);
        certificate[field][bit >> 3]! ^= 1 << (bit & 7);
        expect(() => verifyCertificate(certificate, trust)).toThrow();
      }),
      { numRuns: 150 },
    );
  });

  test("names are 1..64 of letters, digits, dot, underscore, dash", () => {
    for (const name of ["", "a b", "ä", "a/b", "x".repeat(65)]) {
      expect(() => issue(authority, { ...statement, name })).toThrow("name: expected 1..64");
    }
    for (const name of ["a", "A-b_c.9", "x".repeat(64)])
      expect(() => issue(authority, { ...statement, name })).not.toThrow();
  });

  test("a body beyond any sensible size is refused before it is decoded", () => {
    const huge = create(CertificateSchema, { ...good, body: new Uint8Array(5000) });
    expect(() => verifyCertificate(huge, trust)).toThrow("at most 4096 bytes");
  });

  test("the platform's verifier is the one asked", () => {
    const asked: number[] = [];
    const verify = () => asked.push(1) > 0;
    verifyCertificate(good, { ...trust, verify });
    expect(asked.length).toBe(2);
    expect(() => verifyCertificate(good, { ...trust, verify: () => false })).toThrow(
      "the authority's signature",
    );
  });
});
