import { createPublicKey, verify as nodeVerify } from "node:crypto";
import { base64, concat, equalBytes, fromBase64, fromUtf8, hex, utf8 } from "@tutti/foundation/bytes";
import { sha256Hex } from "@tutti/foundation/hash";
import { create, decode, encode } from "@tutti/wire/message";
import { type SignedEnvelope, SignedEnvelopeSchema } from "@tutti/wire/release";
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { type Expected, openEnvelope, pae, type Signer, signEnvelope } from "../src/dsse.ts";
import { envelopeFromJson, envelopeJson } from "../src/envelope-json.ts";
import { AUTHORITY, COORDINATOR, key, NOW_S, OWNER, STRANGER, signer, TRUST } from "./federation.ts";

const TYPE = "application/vnd.test+json";
const PAYLOAD = utf8('{"hello":"world"}');
const EXPECTED: Expected = { ...TRUST, payloadType: TYPE, role: "owner" };
const signed = (by: Signer = OWNER) => signEnvelope(TYPE, PAYLOAD, by);
const open = (envelope: SignedEnvelope, expected: Partial<Expected> = {}) =>
  openEnvelope(envelope, { ...EXPECTED, ...expected });

describe("DSSE v1, protocol.md", () => {
  test("Test Vectors: the PAE, and the ECDSA signature given over it", () => {
    const encoded = pae("http://example.com/HelloWorld", utf8("hello world"));
    expect(fromUtf8(encoded)).toBe("DSSEv1 29 http://example.com/HelloWorld 11 hello world");
    const coordinate = (decimal: string) =>
      Buffer.from(BigInt(decimal).toString(16).padStart(64, "0"), "hex").toString("base64url");
    const publicKey = createPublicKey({
      format: "jwk",
      key: {
        kty: "EC",
        crv: "P-256",
        x: coordinate("46950820868899156662930047687818585632848591499744589407958293238635476079160"),
        y: coordinate("5640078356564379163099075877009565129882514886557779369047442380624545832820"),
      },
    });
    const signature = fromBase64(
      "A3JqsQGtVsJ2O2xqrI5IcnXip5GToJ3F+FnZ+O88SjtR6rDAajabZKciJTfUiHqJPcIAriEGAHTVeCUjW2JIZA==",
    );
    expect(nodeVerify("sha256", encoded, { key: publicKey, dsaEncoding: "ieee-p1363" }, signature)).toBe(
      true,
    );
  });

  test("lengths count bytes, not characters", () => {
    expect(fromUtf8(pae("é", utf8("ü!")))).toBe("DSSEv1 2 é 3 ü!");
    expect(fromUtf8(pae("", new Uint8Array(0)))).toBe("DSSEv1 0  0 ");
  });

  test("two different pairs of type and body never share an encoding", () => {
    const part = fc.string({ unit: fc.constantFrom("1", " ", "a"), maxLength: 6 });
    fc.assert(
      fc.property(part, part, part, part, (type, body, otherType, otherBody) => {
        const same = type === otherType && body === otherBody;
        expect(equalBytes(pae(type, utf8(body)), pae(otherType, utf8(otherBody)))).toBe(same);
      }),
      { numRuns: 1000 },
    );
  });
});

describe("openEnvelope", () => {
  test("gives the payload and who signed it", () => {
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 300 }), (payload) => {
        const { payload: opened, signer: who } = open(signEnvelope(TYPE, payload, OWNER));
        expect(opened).toEqual(payload);
        expect([who.name, who.role, hex(who.publicKey)]).toEqual([
          "owner-10",
          "owner",
          hex(OWNER.key.publicKey),
        ]);
      }),
      { numRuns: 20 },
    );
  });

  test("another type, another role, a foreign authority, another time are refused", () => {
    const refused = (envelope: SignedEnvelope, expected: Partial<Expected>, what: RegExp) => {
      expect(() => open(envelope, expected)).toThrow(expect.objectContaining({ code: "refused" }));
      expect(() => open(envelope, expected)).toThrow(what);
    };
    refused(signed(), { payloadType: "application/other" }, /^envelope type: expected application\/other/);
    refused(signed(), { role: "coordinator" }, /role/);
    refused(signed(COORDINATOR), {}, /role/);
    refused(signed(signer("device", 12)), {}, /role/);
    refused(signed(), { authority: STRANGER.publicKey }, /authority/);
    refused(signed(signer("owner", 10, STRANGER)), {}, /authority|signature/);
    refused(signed(), { nowS: NOW_S + 1001 }, /expire|valid|time/);
    refused(signed(), { nowS: NOW_S - 1001 }, /valid|time/);
    expect(open(signed(), { nowS: NOW_S + 1000 }).payload).toEqual(PAYLOAD);
  });

  test("a swapped certificate is refused, whoever's it is", () => {
    const envelope = signed();
    for (const other of [signer("owner", 20), COORDINATOR, signer("owner", 10, STRANGER)]) {
      const signatures = [{ ...envelope.signatures[0]!, certificate: other.certificate }];
      expect(() => open(create(SignedEnvelopeSchema, { ...envelope, signatures }))).toThrow(
        /refused|certificate|keyid/,
      );
    }
    // With the other owner's keyid as well, the signature itself says no.
    const other = signer("owner", 20);
    const keyid = sha256Hex(other.key.publicKey);
    const signatures = [{ ...envelope.signatures[0]!, certificate: other.certificate, keyid }];
    expect(() => open(create(SignedEnvelopeSchema, { ...envelope, signatures }))).toThrow(
      "envelope signature",
    );
  });

  test("a key that is not the certified one cannot sign", () => {
    expect(() => open(signed({ key: key(99), certificate: OWNER.certificate }))).toThrow("envelope keyid");
    const forged = signed({ key: key(99), certificate: OWNER.certificate });
    forged.signatures[0]!.keyid = sha256Hex(OWNER.key.publicKey);
    expect(() => open(forged)).toThrow("envelope signature");
  });

  test("no signature, two signatures, no certificate are refused", () => {
    const envelope = signed();
    const [signature] = envelope.signatures;
    const { keyid, sig } = signature!;
    for (const [signatures, what] of [
      [[], "expected one signature, got 0"],
      [[signature!, signature!], "expected one signature, got 2"],
      [[{ keyid, sig }], "expected the signer's certificate, got none"],
    ] as const) {
      const other = create(SignedEnvelopeSchema, {
        payloadType: TYPE,
        payload: PAYLOAD,
        signatures: [...signatures],
      });
      expect(() => open(other)).toThrow(what);
    }
  });

  test("a signature over the bare payload, or under another type, is refused", () => {
    const bare = signed();
    bare.signatures[0]!.sig = OWNER.key.sign(PAYLOAD);
    expect(() => open(bare)).toThrow("envelope signature");
    const moved = signEnvelope("application/vnd.other+json", PAYLOAD, OWNER);
    moved.payloadType = TYPE;
    expect(() => open(moved)).toThrow("envelope signature");
  });

  test("a platform's own Verify is asked, and believed", () => {
    const asked: string[] = [];
    const verify = (publicKey: Uint8Array) => {
      asked.push(hex(publicKey));
      return hex(publicKey) === hex(AUTHORITY.publicKey);
    };
    expect(() => open(signed(), { verify })).toThrow("envelope signature");
    expect(asked).toContain(hex(OWNER.key.publicKey));
  });
});

describe("tampering", () => {
  /**
   * The message opens only if it still says the same. Protobuf itself has several encodings of one message
   * (the decoder passes over a wrong wire type or an inner length), so a changed byte need not change
   * content.
   */
  function refusedOrSame(read: () => SignedEnvelope): "refused" | "same" {
    let envelope: SignedEnvelope;
    try {
      envelope = read();
      open(envelope);
    } catch (error) {
      expect(error).toMatchObject({ name: "Fault" });
      return "refused";
    }
    expect(encode(SignedEnvelopeSchema, envelope)).toEqual(encode(SignedEnvelopeSchema, signed()));
    return "same";
  }

  test("any one byte of the message changed to anything: refused, or the very same content", () => {
    const bytes = encode(SignedEnvelopeSchema, signed());
    const verdict = (at: number, flip: number) => {
      const changed = bytes.slice();
      changed[at]! ^= flip;
      return refusedOrSame(() => decode(SignedEnvelopeSchema, changed, 1 << 20));
    };
    const same = Array.from(bytes, (_, at) => verdict(at, 1 + ((at * 37) % 255))).filter(
      (it) => it === "same",
    );
    expect(same.length).toBeLessThan(12);
    fc.assert(
      fc.property(fc.nat(bytes.length - 1), fc.integer({ min: 1, max: 255 }), (at, flip) => {
        verdict(at, flip);
      }),
      { numRuns: 300 },
    );
  });

  test("a byte of the payload, its type, the certificate's body or either signature: always refused", () => {
    const { payload, signatures } = signed();
    const certificate = signatures[0]!.certificate!;
    const parts = [payload, utf8(TYPE), signatures[0]!.sig, certificate.body, certificate.signature];
    const bytes = encode(SignedEnvelopeSchema, signed());
    for (const part of parts) {
      const from = Buffer.from(bytes).indexOf(Buffer.from(part));
      expect(from).toBeGreaterThan(0);
      for (let at = from; at < from + part.length; at++) {
        const changed = bytes.slice();
        changed[at]! ^= 1 + ((at * 37) % 127);
        const read = () => decode(SignedEnvelopeSchema, changed, 1 << 20);
        expect(refusedOrSame(read), `byte ${at}`).toBe("refused");
      }
    }
  });

  test("cut short anywhere: refused", () => {
    const bytes = encode(SignedEnvelopeSchema, signed());
    for (let end = 0; end < bytes.length; end++) {
      expect(() => open(decode(SignedEnvelopeSchema, bytes.subarray(0, end), 1 << 20)), `${end}`).toThrow();
    }
  });

  test("any one character of the file changed: refused, or (white space) the very same content", () => {
    const file = envelopeJson(signed());
    fc.assert(
      fc.property(fc.nat(file.length - 1), fc.integer({ min: 32, max: 126 }), (at, code) => {
        const changed = file.slice(0, at) + String.fromCharCode(code) + file.slice(at + 1);
        refusedOrSame(() => envelopeFromJson(changed));
      }),
      { numRuns: 500 },
    );
  });
});

describe("the DSSE file, envelope.md", () => {
  test("and back", () => {
    const envelope = signed();
    expect(envelopeFromJson(envelopeJson(envelope))).toEqual(envelope);
    const [entry] = (JSON.parse(envelopeJson(envelope)) as { signatures: { sig: string; keyid: string }[] })
      .signatures;
    expect(entry).toMatchObject({
      keyid: sha256Hex(OWNER.key.publicKey),
      sig: base64(envelope.signatures[0]!.sig),
    });
  });

  test("the specification's own file is read: no keyid, no certificate", () => {
    const envelope = envelopeFromJson(
      '{"payload": "aGVsbG8gd29ybGQ=", "payloadType": "http://example.com/HelloWorld", ' +
        '"signatures": [{"sig": "A3Jq"}]}',
    );
    expect(fromUtf8(envelope.payload)).toBe("hello world");
    expect(envelope.signatures.map(({ keyid, certificate }) => [keyid, certificate])).toEqual([
      ["", undefined],
    ]);
    expect(() => open(envelope)).toThrow("envelope type");
  });

  test("URL-safe base64, without padding too, is the same envelope", () => {
    const envelope = signEnvelope(TYPE, concat(Uint8Array.of(0xfb, 0xff, 0xfe, 0xff), PAYLOAD), OWNER);
    const file = JSON.parse(envelopeJson(envelope)) as { payload: string };
    expect(file.payload).toMatch(/[+/]/);
    file.payload = file.payload.replaceAll("+", "-").replaceAll("/", "_").replaceAll("=", "");
    expect(envelopeFromJson(JSON.stringify(file))).toEqual(envelope);
  });

  test.each([
    ["not JSON", "{", "envelope: expected JSON"],
    ["no object", "[]", "envelope: expected an object"],
    ["no signatures", "{}", "envelope.signatures: expected a list of at most 16, got nothing"],
    ["no payload", '{"signatures":[],"payloadType":"x"}', "envelope.payload: expected base64, got nothing"],
    ["no type", '{"signatures":[],"payload":""}', "envelope.payloadType: expected text, got nothing"],
    ["no base64", '{"signatures":[{"sig":"a b"}]}', 'envelope.signatures[0].sig: expected base64, got "a b"'],
    [
      "pad bits",
      '{"signatures":[{"sig":"QR=="}]}',
      "envelope.signatures[0].sig: expected base64 with zero pad bits",
    ],
    ["certificate", '{"signatures":[{"sig":"","certificate":"/w=="}]}', "tutti.v1.Certificate"],
  ])("%s: refused by field", (_, file, what) => {
    expect(() => envelopeFromJson(file)).toThrow(what);
    expect(() => envelopeFromJson(file)).toThrow(expect.objectContaining({ code: "bad-message" }));
  });
});
