import { createHash, hkdfSync } from "node:crypto";
import { create } from "@tutti/wire/message";
import { TermsSchema } from "@tutti/wire/secagg";
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { open, seal } from "../src/envelope.ts";
import { envelopeKey, pairKey, selfKey } from "../src/keys.ts";
import { pairSign } from "../src/mask.ts";
import { reconstruct, SHARE_BYTES, splitSecret } from "../src/shares.ts";
import { attestStatement, namesHash, seedCommitment, sessionId } from "../src/statement.ts";
import { checkSize, corruptible, MAX_MEMBERS, thresholdFor } from "../src/threshold.ts";
import { names, random } from "./federation.ts";

/** The canonical encoding by hand: each field after its length, a little-endian u32; numbers are u64. */
function canonicalTwin(...fields: (string | number | Uint8Array)[]): Buffer {
  const parts = fields.map((field) => {
    const number = Buffer.alloc(8);
    if (typeof field === "number") number.writeBigUInt64LE(BigInt(field));
    const bytes = typeof field === "number" ? number : Buffer.from(field as string);
    const length = Buffer.alloc(4);
    length.writeUInt32LE(bytes.length);
    return Buffer.concat([length, bytes]);
  });
  return Buffer.concat(parts);
}
const sha = (bytes: Buffer) => new Uint8Array(createHash("sha256").update(bytes).digest());

describe("thresholds (docs/protocol.md, Threshold)", () => {
  test("3 → 2, 4 → 3, 5 → 4, 10 → 7, 100 → 67", () => {
    expect([3, 4, 5, 10, 100].map(thresholdFor)).toEqual([2, 3, 4, 7, 67]);
  });

  test("the smallest t with 2t > n + n_C, and never more than n", () => {
    for (let n = 2; n <= MAX_MEMBERS; n++) {
      const t = thresholdFor(n);
      const bad = corruptible(n);
      expect(2 * t > n + bad && 2 * (t - 1) <= n + bad && t <= n).toBe(true);
    }
  });

  test("more than a thousand members are refused by name", () => {
    expect(() => checkSize(1000)).not.toThrow();
    expect(() => checkSize(1001)).toThrow("expected at most 1000, got 1001. Use more cohorts");
  });
});

describe("what is hashed and signed", () => {
  const sid = new Uint8Array(32).fill(3);
  const root = new Uint8Array(32).fill(4);

  test("sid is the formula of docs/protocol.md, Session id", () => {
    const modelHash = new Uint8Array(32).fill(1);
    const taskHash = new Uint8Array(32).fill(2);
    const terms = create(TermsSchema, {
      run: "r",
      round: 3,
      attempt: 2,
      bits: 20,
      length: 9,
      modelHash,
      taskHash,
    });
    const twin = canonicalTwin("tutti/secagg/v1", "r", 3, 2, root, modelHash, taskHash, 5, 4, 5, 20, 9);
    expect(sessionId(terms, { root, n: 5, threshold: 4, degree: 5 })).toEqual(sha(twin));
  });

  test("the attestation is over sid and all three sets", () => {
    const twin = canonicalTwin(
      "tutti/attest/v1",
      sid,
      root,
      sha(canonicalTwin("tutti/U2/v1", "a", "b", "c")),
      sha(canonicalTwin("tutti/U3/v1", "a", "b")),
    );
    const sets = { root, senders: ["a", "b", "c"], survivors: ["a", "b"] };
    expect(attestStatement(sid, sets)).toEqual(new Uint8Array(twin));
  });

  test("the commitment is H(b, sid, u, b_u); U2 and U3 of the same names differ", () => {
    expect(seedCommitment(sid, "u", root)).toEqual(sha(canonicalTwin("b", sid, "u", root)));
    expect(namesHash("U2", ["a"])).not.toEqual(namesHash("U3", ["a"]));
    expect(namesHash("U2", ["ab", "c"])).not.toEqual(namesHash("U2", ["a", "bc"]));
  });

  test("keys are HKDF-SHA-256 with sid as salt; a pair's has no direction, an envelope's has", () => {
    const secret = new Uint8Array(32).fill(6);
    const twin = (...info: string[]) => {
      const [label, ...rest] = info;
      return new Uint8Array(hkdfSync("sha256", secret, sid, canonicalTwin(label!, ...rest), 32));
    };
    expect(pairKey(secret, sid, ["b", "a"])).toEqual(twin("pair", "a", "b"));
    expect(pairKey(secret, sid, ["a", "b"])).toEqual(twin("pair", "a", "b"));
    expect(selfKey(secret, sid, "a")).toEqual(twin("self", "a"));
    expect(envelopeKey(secret, sid, { from: "b", to: "a" })).toEqual(twin("env", "b", "a"));
    expect(pairSign("b", "a") + pairSign("a", "b")).toBe(0);
    expect(pairSign("b", "a")).toBe(1);
  });
});

describe("envelopes", () => {
  const key = random.bytes(32);
  const route = { from: "u", to: "v" };
  const shares = { maskKeyShare: random.bytes(SHARE_BYTES), seedShare: random.bytes(SHARE_BYTES) };

  test("open gives what seal took, under the same key and route", () => {
    const sealed = seal(key, { ...route, ...shares });
    expect(open(key, sealed, route)).toEqual(shares);
    expect(open(random.bytes(32), sealed, route)).toBeNull();
    expect(open(key, sealed, { from: "v", to: "u" })).toBeNull();
  });

  test("any bit flipped, any length cut, and shares of any other length are not opened", () => {
    const sealed = seal(key, { ...route, ...shares });
    fc.assert(
      fc.property(fc.nat(8 * sealed.length - 1), (bit) => {
        const other = sealed.slice();
        other[bit >> 3]! ^= 1 << (bit & 7);
        expect(open(key, other, route)).toBeNull();
        expect(open(key, sealed.subarray(0, bit >> 3), route)).toBeNull();
      }),
    );
    const short = seal(key, { ...route, ...shares, seedShare: random.bytes(SHARE_BYTES - 1) });
    expect(open(key, short, route)).toBeNull();
  });
});

describe("shares", () => {
  test("with n − t lies at most, the secret comes back and no honest holder is doubted", async () => {
    const setting = fc.integer({ min: 3, max: 9 }).chain((n) =>
      fc.record({
        n: fc.constant(n),
        lies: fc.integer({ min: 0, max: n - thresholdFor(n) }),
        at: fc.nat(),
      }),
    );
    await fc.assert(
      fc.asyncProperty(setting, async ({ n, lies, at }) => {
        const holders = names(n);
        const threshold = thresholdFor(n);
        const secret = random.bytes(32);
        const shares = await splitSecret(secret, { holders, threshold });
        const liars = Array.from({ length: lies }, (_, i) => holders[(at + i) % n]!).sort();
        for (const liar of liars) shares.get(liar)!.set(random.bytes(32));
        const good = (other: Uint8Array) => Buffer.from(other).equals(secret);
        const found = reconstruct(shares, { threshold, good, suspects: new Set() });
        expect(found?.secret).toEqual(secret);
        // Lies among the first t shares were met, and then all are found.
        const met = liars.some((liar) => holders.indexOf(liar) < threshold);
        expect(found!.misfits).toEqual(met ? liars : []);
        const beyond = n - lies + 1;
        if (lies > 0)
          expect(reconstruct(shares, { threshold: beyond, good, suspects: new Set() })).toBeNull();
      }),
      { numRuns: 60 },
    );
  });

  test("liars whose errors cancel may have honest holders doubted, never blamed", {
    timeout: 60_000,
  }, async () => {
    const holders = names(7);
    const liars = ["d00", "d01"];
    let framed = 0;
    for (let i = 0; i < 600; i++) {
      const secret = random.bytes(32);
      const shares = await splitSecret(secret, { holders, threshold: 5 });
      for (const liar of liars) shares.get(liar)![7]! ^= 0x55;
      const good = (other: Uint8Array) => Buffer.from(other).equals(secret);
      const found = reconstruct(shares, { threshold: 5, good, suspects: new Set() });
      expect(found?.secret).toEqual(secret);
      if (found!.misfits.join() === liars.join()) continue;
      framed++;
      expect(found!.certain && found!.misfits.length > 0).toBe(false);
    }
    expect(framed).toBeGreaterThan(0);
  });

  test("fewer than t shares, or only lies, give nothing; the search ends", async () => {
    const holders = names(60);
    const shares = await splitSecret(random.bytes(32), { holders, threshold: 40 });
    let tried = 0;
    const good = () => ++tried < 0;
    expect(reconstruct(shares, { threshold: 40, good, suspects: new Set() })).toBeNull();
    expect(tried).toBe(1000);
    const few = new Map([...shares].slice(0, 39));
    expect(reconstruct(few, { threshold: 40, good: () => true, suspects: new Set() })).toBeNull();
  });

  test("three liars in a hundred are found, whoever is asked first", {
    timeout: 60_000,
  }, async () => {
    const holders = names(100);
    const secret = random.bytes(32);
    const shares = await splitSecret(secret, { holders, threshold: 67 });
    const liars = ["d03", "d50", "d66"];
    // Each lies in a byte of its own: lies in the same byte cancel for one choice of holders in 256.
    for (const [at, liar] of liars.entries()) shares.get(liar)![at]! ^= 1;
    const good = (other: Uint8Array) => Buffer.from(other).equals(secret);
    const options = { threshold: 67, good, suspects: new Set<string>() };
    expect(reconstruct(shares, options)).toEqual({ secret, misfits: liars, certain: true });
    const known = reconstruct(shares, { ...options, suspects: new Set(liars) });
    expect(known).toEqual({ secret, misfits: [], certain: true });
  });
});
