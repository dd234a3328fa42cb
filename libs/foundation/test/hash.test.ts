import { createHash, hkdfSync } from "node:crypto";
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { fromHex, hex, utf8 } from "../src/bytes.ts";
import { hkdf, sha256, sha256Hex, sha256Stream } from "../src/hash.ts";

describe("SHA-256 (FIPS 180-4)", () => {
  test("the standard's examples", () => {
    expect(sha256Hex(utf8(""))).toBe("e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
    expect(sha256Hex(utf8("abc"))).toBe("ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
    expect(sha256Hex(utf8("abcdbcdecdefdefgefghfghighijhijkijkljklmklmnlmnomnopnopq"))).toBe(
      "248d6a61d20638b8e5c026930c3e6039a33ce45964ff2167f6ecedd419db06c1",
    );
  });

  test("node's agrees, whole and in pieces", () => {
    fc.assert(
      fc.property(fc.array(fc.uint8Array({ maxLength: 150 }), { maxLength: 5 }), (pieces) => {
        const stream = sha256Stream();
        const twin = createHash("sha256");
        for (const piece of pieces) {
          stream.update(piece);
          twin.update(piece);
        }
        const digest = hex(stream.digest());
        expect(digest).toBe(twin.digest("hex"));
        expect(hex(sha256(Uint8Array.from(pieces.flatMap((piece) => [...piece]))))).toBe(digest);
      }),
    );
  });
});

describe("HKDF-SHA-256 (RFC 5869, appendix A)", () => {
  test("A.1", () => {
    const okm = hkdf(
      fromHex("0b".repeat(22)),
      fromHex("000102030405060708090a0b0c"),
      fromHex("f0f1f2f3f4f5f6f7f8f9"),
      42,
    );
    expect(hex(okm)).toBe(
      "3cb25f25faacd57a90434f64d0362f2a2d2d0a90cf1a5a4c5db02d56ecc4c5bf34007208d5b887185865",
    );
  });

  test("node's agrees; 32 bytes unless told", () => {
    const any = fc.uint8Array({ minLength: 1, maxLength: 80 });
    fc.assert(
      fc.property(any, any, any, (secret, salt, info) => {
        expect(hex(hkdf(secret, salt, info))).toBe(
          Buffer.from(hkdfSync("sha256", secret, salt, info, 32)).toString("hex"),
        );
      }),
    );
  });
});
