import { fromUtf8, utf8 } from "@tutti/foundation/bytes";
import { sha256Hex } from "@tutti/foundation/hash";
import type { Plan } from "@tutti/plan/plan";
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { signEnvelope } from "../src/dsse.ts";
import { accept } from "../src/lineage.ts";
import {
  checkArtifact,
  IN_TOTO,
  type OpenedRelease,
  openRelease,
  type Release,
  releaseOf,
  signRelease,
} from "../src/manifest.ts";
import { COORDINATOR, OWNER, RELEASE, TRUST } from "./federation.ts";

const statement = () =>
  JSON.parse(fromUtf8(signRelease(RELEASE, COORDINATOR).payload)) as Record<string, unknown>;

function openStatement(value: unknown): Release {
  return openRelease(signEnvelope(IN_TOTO, utf8(JSON.stringify(value)), COORDINATOR), TRUST).release;
}

describe("signRelease and openRelease", () => {
  test("and back, with the payload's hash as its name", () => {
    const envelope = signRelease(RELEASE, COORDINATOR);
    expect(openRelease(envelope, TRUST)).toEqual({ release: RELEASE, digest: sha256Hex(envelope.payload) });
    const first = { ...RELEASE, version: 0, round: 0, parent: null, cohorts: [], transcript: null };
    expect(openRelease(signRelease(first, COORDINATOR), TRUST).release).toEqual(first);
  });

  test("what a plan and a round say is in it, and it can be signed", () => {
    const { run, version, round, base, adapter, parent, cohorts, transcript } = RELEASE;
    const { method, rank, alpha } = RELEASE;
    const plan = { base: { ...base, bytes: 9 }, adapter: { method, rank, alpha, targets: [] } };
    const wallMs = Date.UTC(2026, 0, 31, 12);
    const made = { run, version, round, adapter, parent, cohorts, transcript, wallMs };
    for (const enabled of [true, false]) {
      const release = releaseOf(
        { ...plan, secureAggregation: { enabled, bits: 16 } } as unknown as Plan,
        made,
      );
      const expected = { ...RELEASE, secureAggregation: enabled, createdAt: "2026-01-31T12:00:00.000Z" };
      expect(release).toEqual(expected);
      expect(openRelease(signRelease(release, COORDINATOR), TRUST).release).toEqual(expected);
    }
  });

  test("the payload is an in-toto statement v1 about the adapter", () => {
    expect(signRelease(RELEASE, COORDINATOR).payloadType).toBe("application/vnd.in-toto+json");
    expect(statement()).toEqual({
      _type: "https://in-toto.io/Statement/v1",
      subject: [{ name: "adapter", digest: { sha256: RELEASE.adapter.sha256 } }],
      predicateType: "https://tutti.dev/release/v1",
      predicate: RELEASE,
    });
  });

  test("an owner cannot publish; a plan's type is not a release's", () => {
    expect(() => openRelease(signRelease(RELEASE, OWNER), TRUST)).toThrow(
      expect.objectContaining({ code: "refused" }),
    );
    const moved = signEnvelope("application/vnd.tutti.plan+json", utf8("{}"), COORDINATOR);
    expect(() => openRelease(moved, TRUST)).toThrow("envelope type");
  });

  test("fields nobody knows are passed over, and not handed on", () => {
    const value = { ...statement(), more: 1, predicate: { ...RELEASE, more: 2 } };
    expect(openStatement(value)).toEqual(RELEASE);
  });

  test.each<[string, unknown]>([
    ["run", "AA".repeat(32)],
    ["version", -1],
    ["version", "3"],
    ["round", 1.5],
    ["base", { sha256: "bb" }],
    ["base", null],
    ["adapter", { sha256: "cc".repeat(32), bytes: 0 }],
    ["parent", undefined],
    ["parent", "dd"],
    ["cohorts", [5, 0]],
    ["cohorts", 5],
    ["secureAggregation", 1],
    ["privacy", undefined],
    ["privacy", { epsilon: 1 }],
    ["method", "Rolora "],
    ["rank", 0],
    ["alpha", Number.NaN],
    ["createdAt", "yesterday"],
    ["createdAt", "2026-13-45T12:00:00Z"],
    ["createdAt", "2026-02-30T12:00:00Z"],
    ["createdAt", "2026-01-31T24:00:00Z"],
    ["createdAt", "1969-12-31T23:59:59Z"],
  ])("%s = %j is refused by name, when signed and when opened", (field, value) => {
    const bad = { ...RELEASE, [field]: value };
    expect(() => signRelease(bad as Release, COORDINATOR)).toThrow(`release.predicate.${field}`);
    expect(() => openStatement({ ...statement(), predicate: bad })).toThrow(`release.predicate.${field}`);
  });

  test.each<[string, Record<string, unknown>]>([
    ["_type", { _type: "https://in-toto.io/Statement/v0.1" }],
    ["predicateType", { predicateType: "https://slsa.dev/provenance/v1" }],
    ["subject", { subject: [] }],
    ["subject", { subject: [{ digest: { sha256: "00".repeat(32) } }] }],
    ["subject", { subject: [{ digest: { sha512: RELEASE.adapter.sha256 } }] }],
    ["subject", { subject: [1, 2] }],
    ["predicate", { predicate: undefined }],
  ])("a statement with another %s is refused", (field, change) => {
    expect(() => openStatement({ ...statement(), ...change })).toThrow(`release.${field}`);
  });
});

test.each(["1970-01-01T00:00:00Z", "2028-02-29T23:59:59.123456789Z"])("%s is a time", (createdAt) => {
  const release = { ...RELEASE, createdAt };
  expect(openStatement({ ...statement(), predicate: release })).toEqual(release);
});

describe("accept", () => {
  const opened = (change: Partial<Release>): OpenedRelease => {
    return openRelease(signRelease({ ...RELEASE, ...change }, COORDINATOR), TRUST);
  };
  const current = opened({});
  const next = opened({ version: 4, round: 8, parent: current.digest });

  test("the next in line, the same again, a later one, and any for a device that holds none", () => {
    accept(current, next);
    accept(current, opened({}));
    accept(current, opened({ version: 9, round: 20, parent: "ee".repeat(32) }));
    accept(null, current);
    accept(null, opened({ version: 0, parent: null }));
  });

  test.each<[string, Partial<Release>]>([
    ["version", { version: 2 }],
    ["content", { round: 8 }],
    ["parent", { version: 4, parent: "ee".repeat(32) }],
    ["parent", { version: 4, parent: null }],
    ["parent", { version: 9, parent: null }],
    ["run", { version: 4, parent: current.digest, run: "ff".repeat(32) }],
    ["base model", { version: 4, parent: current.digest, base: { sha256: "ff".repeat(32) } }],
  ])("refused for its %s: %j", (what, change) => {
    const { version = RELEASE.version } = change;
    expect(() => accept(current, opened(change))).toThrow(`release ${version}, ${what}: expected`);
    expect(() => accept(current, opened(change))).toThrow(expect.objectContaining({ code: "refused" }));
  });

  test("no walk of accepted releases ever goes back, and it may not stop half way", () => {
    const line = [opened({ version: 0, parent: null })];
    for (let version = 1; version < 8; version++) line.push(opened({ version, parent: line.at(-1)!.digest }));
    fc.assert(
      fc.property(fc.array(fc.nat(7), { maxLength: 20 }), (offers) => {
        let held: OpenedRelease | null = null;
        for (const offer of offers) {
          const before: number = held === null ? -1 : (held as OpenedRelease).release.version;
          const take = () => accept(held, line[offer]!);
          if (offer < before) expect(take).toThrow("version");
          else {
            take();
            held = line[offer]!;
          }
        }
      }),
    );
  });
});

describe("checkArtifact", () => {
  test("any other byte or length is refused, with both hashes", () => {
    const bytes = utf8("an adapter");
    const artifact = { sha256: sha256Hex(bytes), bytes: bytes.length };
    checkArtifact(bytes, artifact);
    expect(() => checkArtifact(bytes, { ...artifact, bytes: 11 })).toThrow("artifact: expected 11 bytes");
    for (let at = 0; at < bytes.length; at++) {
      const changed = bytes.slice();
      changed[at]! ^= 1;
      expect(() => checkArtifact(changed, artifact)).toThrow(artifact.sha256);
    }
  });
});
