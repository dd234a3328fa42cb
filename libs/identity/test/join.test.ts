import { base64, hex } from "@tutti/foundation/bytes";
import { Fault } from "@tutti/foundation/fault";
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { issue } from "../src/certificate.ts";
import { type JoinFile, joinFileText, parseJoinFile, spent } from "../src/join.ts";
import { signingKey } from "../src/keys.ts";

const authority = signingKey(new Uint8Array(32).fill(1));
const secret = new Uint8Array(32).fill(2);
const grant = issue(authority, {
  role: "device",
  name: "ward-3",
  publicKey: signingKey(secret).publicKey,
  notBeforeS: 1,
  notAfterS: 2,
  serial: new Uint8Array(16),
  labels: { site: "A" },
});
const join: JoinFile = {
  version: 1,
  federation: "hearts",
  address: "coordinator.example.org:7443",
  tls: { certificate: "-----BEGIN CERTIFICATE-----\nAAAA\nBBB=\n-----END CERTIFICATE-----\n" },
  authority: authority.publicKey,
  token: { grant, secret },
  owners: [{ name: "owner", publicKey: new Uint8Array(32).fill(3) }],
};

/** The file's JSON with one field put in place of another. */
function changed(path: string, value: unknown): string {
  const file: Record<string, unknown> = JSON.parse(joinFileText(join));
  const keys = path.split(".");
  const last = keys.pop()!;
  let at = file;
  for (const key of keys) at = at[key] as Record<string, unknown>;
  if (value === undefined) delete at[last];
  else at[last] = value;
  return JSON.stringify(file);
}

function faultOf(text: string): Fault {
  try {
    parseJoinFile(text);
  } catch (error) {
    expect(error).toBeInstanceOf(Fault);
    return error as Fault;
  }
  throw new Error("was taken");
}

test("text and back", () => {
  expect(parseJoinFile(joinFileText(join))).toEqual(join);
  expect(JSON.parse(joinFileText(join))).toMatchObject({
    authority: hex(authority.publicKey),
    token: { secret: base64(secret) },
  });
});

test("further coordinators, and their certificates, where there are some; else not a word of them", () => {
  const several = {
    ...join,
    addresses: ["two.example.org:7443", "[2001:db8::1]:7443"],
    tls: { ...join.tls, others: [join.tls.certificate] },
  };
  expect(parseJoinFile(joinFileText(several))).toEqual(several);
  expect(Object.keys(JSON.parse(joinFileText(several)))).toContain("addresses");
  expect(Object.keys(JSON.parse(joinFileText(join)))).not.toContain("addresses");
  expect(JSON.parse(joinFileText(join)).tls).toEqual(join.tls);
});

test("spent, it has everything but the secret", () => {
  const text = joinFileText(spent(join));
  expect(text).not.toContain(base64(secret).slice(0, 12));
  expect(JSON.parse(text).token.secret).toBeNull();
  expect(parseJoinFile(text)).toEqual({ ...join, token: { grant, secret: null } });
});

describe("each field is checked and named", () => {
  test.each([
    ["version", 2],
    ["version", "1"],
    ["federation", ""],
    ["federation", "a b"],
    ["address", "host"],
    ["address", "host:0"],
    ["address", "host:65536"],
    ["address", "ho st:1"],
    ["address", "http://host:1"],
    ["tls", null],
    ["tls.certificate", "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----"],
    ["tls.certificate", `${join.tls.certificate}${join.tls.certificate}`],
    ["addresses", []],
    ["addresses", "host:1"],
    ["addresses", ["host"]],
    ["addresses", Array.from({ length: 17 }, (_, at) => `host:${at + 1}`)],
    ["tls.others", [7]],
    ["tls.others", [`${join.tls.certificate}${join.tls.certificate}`]],
    ["tls.others", Array.from({ length: 17 }, () => join.tls.certificate)],
    ["authority", "00"],
    ["authority", "g".repeat(64)],
    ["token.grant", "!"],
    ["token.grant", base64(new Uint8Array([255, 255]))],
    ["token.secret", base64(new Uint8Array(31))],
    ["token.secret", 7],
    ["token.secret", ""],
    ["owners", {}],
    ["owners.0", "owner"],
    ["owners.0.name", "o/w"],
    ["owners.0.publicKey", "AB".repeat(32)],
    ["owners.1", { name: "owner", publicKey: "00".repeat(32) }],
  ])("%s = %j", (path, value) => {
    const fault = faultOf(changed(path, value));
    expect(fault.code).toBe("bad-input");
    expect(fault.what).toContain(path.split(".").filter((key) => Number.isNaN(Number(key)))[0]);
    expect(fault.detail.expected).toBeTruthy();
  });

  test.each([
    "version",
    "federation",
    "address",
    "tls",
    "tls.certificate",
    "authority",
    "token.secret",
    "owners",
  ])("%s missing", (path) => expect(faultOf(changed(path, undefined)).message).toContain(path));

  test("an unknown field, wherever", () => {
    for (const path of ["extra", "tls.extra", "token.extra", "owners.0.extra"])
      expect(faultOf(changed(path, 1)).message).toContain("extra");
  });
});

test("a refusal never quotes the secret", () => {
  const text = joinFileText(join);
  for (const broken of [text.slice(0, -10), text.replace(base64(secret), `${base64(secret)}A`), `x${text}`])
    expect(JSON.stringify(faultOf(broken).message)).not.toContain(base64(secret).slice(0, 12));
});

test("whatever the text, a join file or a Fault", () => {
  const text = joinFileText(join);
  const cut = fc.tuple(fc.nat(text.length - 1), fc.string({ maxLength: 3 })).map(([at, put]) => {
    return text.slice(0, at) + put + text.slice(at + put.length + 1);
  });
  fc.assert(
    fc.property(fc.oneof(cut, fc.json(), fc.string()), (any) => {
      try {
        parseJoinFile(any);
      } catch (error) {
        expect(error).toBeInstanceOf(Fault);
      }
    }),
    { numRuns: 500 },
  );
});
