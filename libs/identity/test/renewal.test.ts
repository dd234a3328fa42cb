import { Fault } from "@tutti/foundation/fault";
import { platformRandom } from "@tutti/foundation/random";
import { create, decode, encode } from "@tutti/wire/message";
import { type RenewalRequest, RenewalRequestSchema } from "@tutti/wire/standing";
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { bind, issue, verifyCertificate } from "../src/certificate.ts";
import { denialOf, denied } from "../src/denial.ts";
import { newSeed, signingKey } from "../src/keys.ts";
import {
  checkRenewal,
  completeRenewal,
  daysOf,
  grantRenewal,
  isDue,
  requestRenewal,
} from "../src/renewal.ts";
import { checkSites } from "../src/sites.ts";

const random = platformRandom();
const newKey = () => signingKey(newSeed(random));
const [authority, token, device, other] = [newKey(), newKey(), newKey(), newKey()];
const DAY_S = 86_400;
const NOW_S = 1_800_000_000;
const END_S = NOW_S + 90 * DAY_S;
const about = {
  role: "device",
  name: "ward-7",
  publicKey: token.publicKey,
  notBeforeS: NOW_S,
  notAfterS: END_S,
  serial: Uint8Array.of(1, 2, 3),
  labels: { ward: "7" },
  site: "north",
  siteLimit: 3,
} as const;
const present = bind(issue(authority, about), token, device.publicKey);
const rules = { authority: authority.publicKey, graceS: 30 * DAY_S } as const;
const ask = (nowS: number, days = 90) => requestRenewal(device, { certificate: present, days, nowS });
const grantOf = (request: RenewalRequest, nowS: number, days = 90) => {
  const identity = checkRenewal(request, { ...rules, nowS });
  return grantRenewal(authority, { identity, days, nowS, serial: Uint8Array.of(9) });
};
const complete = (grant: typeof present, nowS: number, key = device) =>
  completeRenewal(key, { grant, present, authority: authority.publicKey, nowS });

describe("a certificate goes on", () => {
  test("from two thirds of its validity on, for as long again", () => {
    expect(isDue(present, NOW_S + 60 * DAY_S - 1)).toBe(false);
    expect(isDue(present, NOW_S + 60 * DAY_S)).toBe(true);
    expect(daysOf(present)).toBe(90);
  });

  test("asked for, granted and bound, it verifies like the first: same name, key, site and labels", () => {
    const nowS = NOW_S + 70 * DAY_S;
    const renewed = complete(grantOf(ask(nowS), nowS), nowS);
    const trust = { authority: authority.publicKey, role: "device", nowS: END_S + DAY_S } as const;
    expect(() => verifyCertificate(present, trust)).toThrow("expired");
    expect(verifyCertificate(renewed, trust)).toEqual({
      name: "ward-7",
      role: "device",
      labels: { ward: "7" },
      site: "north",
      siteLimit: 3,
      enrolBeforeS: 0,
      publicKey: device.publicKey,
      notAfterS: nowS + 90 * DAY_S,
      serial: Uint8Array.of(9),
    });
    // And once more, from the renewed one.
    const again = requestRenewal(device, { certificate: renewed, days: 0, nowS: nowS + DAY_S });
    expect(checkRenewal(again, { ...rules, nowS: nowS + DAY_S }).serial).toEqual(Uint8Array.of(9));
    // The token that began it binds nothing any more.
    const stolen = bind(renewed, token, other.publicKey);
    expect(() => verifyCertificate(stolen, trust)).toThrow("binding");
  });

  test("an expired one still asks within the grace period, not after it", () => {
    expect(checkRenewal(ask(END_S + 30 * DAY_S), { ...rules, nowS: END_S + 30 * DAY_S }).name).toBe("ward-7");
    const late = END_S + 30 * DAY_S + 1;
    expect(() => checkRenewal(ask(late), { ...rules, nowS: late })).toThrow("expired");
  });

  test("a renewal never shortens what there is", () => {
    const grant = grantOf(ask(NOW_S + DAY_S), NOW_S + DAY_S, 1);
    const renewed = complete(grant, NOW_S + DAY_S);
    const trust = { authority: authority.publicKey, role: "device", nowS: NOW_S + 2 * DAY_S } as const;
    expect(verifyCertificate(renewed, trust).notAfterS).toBe(END_S);
  });

  test("what is altered is refused by name", () => {
    const nowS = NOW_S + DAY_S;
    const refused = (change: Partial<RenewalRequest>) => () =>
      checkRenewal(create(RenewalRequestSchema, { ...ask(nowS), ...change }), { ...rules, nowS });
    expect(refused({ days: 91 })).toThrow("its own signature");
    expect(refused({ days: 4000 })).toThrow("days");
    expect(refused({ askedAtS: nowS - 1 })).toThrow("its own signature");
    expect(refused({ certificate: undefined as never })).toThrow("a certificate");
    const { signature } = requestRenewal(other, { certificate: present, days: 90, nowS });
    expect(refused({ signature })).toThrow("its own signature");
    expect(() => checkRenewal(ask(nowS + 2 * 3600), { ...rules, nowS })).toThrow("before now");
    const foreign = { ...rules, authority: other.publicKey, nowS };
    expect(() => checkRenewal(ask(nowS), foreign)).toThrow("authority");
  });

  test("a device takes no grant for another name, key, site or label, nor one that ends sooner", () => {
    const nowS = NOW_S + DAY_S;
    const grant = (change: object) => issue(authority, { ...about, publicKey: device.publicKey, ...change });
    expect(() => complete(grant({}), nowS)).not.toThrow();
    expect(() => complete(grant({ name: "ward-8" }), nowS)).toThrow("the same name");
    expect(() => complete(grant({ publicKey: other.publicKey }), nowS)).toThrow("binding");
    expect(() => complete(grant({ site: "south" }), nowS)).toThrow("site north");
    for (const labels of [{ ward: "8" }, { ward: "7", night: "yes" }, {}])
      expect(() => complete(grant({ labels }), nowS)).toThrow('labels [["ward","7"]]');
    expect(() => complete(grant({ notAfterS: END_S - 1 }), nowS)).toThrow("an end not before");
    const foreign = issue(other, { ...about, publicKey: device.publicKey });
    expect(() => complete(foreign, nowS)).toThrow("authority");
  });

  test("any bytes are a request that is good, or a Fault", () => {
    const whole = encode(RenewalRequestSchema, ask(NOW_S));
    const mutated = fc.tuple(fc.nat(whole.length - 1), fc.nat(255)).map(([at, byte]) => {
      const bytes = whole.slice();
      bytes[at] = byte;
      return bytes;
    });
    fc.assert(
      fc.property(fc.oneof(fc.uint8Array({ maxLength: 300 }), mutated), (bytes) => {
        try {
          const request = decode(RenewalRequestSchema, bytes, 64 << 10);
          checkRenewal(request, { ...rules, nowS: NOW_S + DAY_S });
          expect(encode(RenewalRequestSchema, request)).toEqual(whole);
        } catch (error) {
          expect(error).toBeInstanceOf(Fault);
        }
      }),
    );
  });
});

test("why a device is not let in can be told apart, and nothing else is taken for it", () => {
  for (const why of ["expired", "revoked", "unknown"] as const) {
    const fault = denied("ward-7", why);
    expect([fault.code, denialOf(fault), fault.detail.todo?.length]).toEqual([
      "refused",
      why,
      expect.any(Number),
    ]);
  }
  expect(denied("a\nb", "unknown").what).toBe("device another: unknown");
  expect(denialOf(new Fault("refused", "device a: happy"))).toBe(null);
  expect(denialOf(new Fault("conflict", "device a: expired"))).toBe(null);
});

describe("devices of one site in one sum", () => {
  const of = (site: string, siteLimit: number) => ({ site, siteLimit });
  test("are as many as the authority signed, and the least of what it signed counts", () => {
    const three = [of("north", 2), of("north", 2), of("south", 1)];
    expect(() => checkSites(three)).not.toThrow();
    expect(() => checkSites([...three, of("north", 9)])).toThrow("site north: expected at most 2 devices");
    expect(() => checkSites([of("", 0), of("", 0), of("north", 0), of("north", 0)])).not.toThrow();
  });
});
