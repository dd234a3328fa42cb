import { sha256, sha256Hex } from "@tutti/foundation/hash";
import { packBits, unpackBits } from "@tutti/kernels/pack";
import { epsilonOfRho } from "@tutti/privacy/accountant";
import type { Release } from "@tutti/release/manifest";
import { beforeAll, describe, expect, test } from "vitest";
import { verifyRound } from "../../src/verify.ts";
import { fault, foundIn, MOMENTUM } from "./caught.ts";
import * as house from "./played.ts";

/** docs/protocol.md, Transcript: what was made of a sum, and is claimed of it. */

let round: house.PlayedRound;
let later: house.PlayedRound;
let noised: house.PlayedRound;
beforeAll(async () => {
  round = await house.playRound({});
  later = await house.playRound({ plan: MOMENTUM, round: 1 });
  const privacy = { mode: "distributed", noiseMultiplier: 2 };
  noised = await house.playRound({ plan: { ...MOMENTUM, privacy }, round: 1 });
});

const found = (change: Parameters<typeof foundIn>[1]) => foundIn(round, change);

describe("what was published", () => {
  test.each<[string, Partial<Release>]>([
    ["transcript", { transcript: null }],
    ["transcript", { transcript: "ab".repeat(32) }],
    ["run", { run: "ab".repeat(32) }],
    ["round", { round: 1 }],
    ["version", { version: 2 }],
    ["parent", { parent: "ab".repeat(32) }],
    ["base model", { base: { sha256: "12".repeat(32) } }],
    ["secure aggregation", { secureAggregation: false }],
    ["cohorts", { cohorts: [4] }],
    ["cohorts", { cohorts: [2, 1] }],
    ["cohorts", { cohorts: [] }],
  ])("a manifest with another %s", (field, change) => {
    const { code, what } = fault({ ...round.given, manifest: house.manifestOf(round.release, change) });
    expect([code, what]).toEqual(["refused", `manifest, ${field}`]);
  });

  test("a manifest of another round: which round it is of, and not two hashes", () => {
    const change = { round: 7, version: 8, transcript: "ab".repeat(32) };
    const manifest = house.manifestOf(round.release, change);
    const { task } = verifyRound(round.given);
    expect(fault({ ...round.given, manifest }).message).toBe(
      `manifest, round: expected ${task.round}, got 7`,
    );
  });

  test("a claim of privacy where the plan has none, in the transcript or in the manifest", () => {
    const message = found((_, cohort) => {
      cohort.privacy = { $typeName: "tutti.v1.PrivacySpent", mode: "central", noiseMultiplier: 1, rho: 0.5 };
    });
    expect(message).toMatch(/^cohort 1, privacy: expected no claim/);
    const { privacy } = noised.release;
    const manifest = house.manifestOf(round.release, { privacy });
    expect(fault({ ...round.given, manifest }).message).toMatch(/^manifest, privacy: expected no claim/);
  });

  test("noise other than the plan's, or a price other than the survivors'", () => {
    const { given } = noised;
    expect(verifyRound(given).transcript.cohorts[0]!.privacy!.rho).toBeGreaterThan(0);
    const spent = (change: object) => {
      const it = house.retold(noised, ({ cohorts }) => Object.assign(cohorts[0]!.privacy!, change));
      return fault(it).message;
    };
    const { rho } = noised.transcript.cohorts[0]!.privacy!;
    for (const change of [{ rho: rho * 0.999 }, { noiseMultiplier: 9 }, { mode: "local" }])
      expect(spent(change)).toMatch(/^cohort 1, privacy: expected distributed, noise/);
    const { release } = noised;
    const claimed = (change: object) => {
      const manifest = house.manifestOf(release, { privacy: { ...release.privacy!, ...change } });
      return fault({ ...given, manifest }).message;
    };
    expect(claimed({ noiseMultiplier: 9 })).toMatch(/^manifest, privacy: expected distributed, noise 2/);
    expect(claimed({ rho })).toMatch(/^manifest, privacy: ρ: expected at least 0\.\d+, got/);
    const manifest = house.manifestOf(release, { privacy: null });
    expect(fault({ ...given, manifest }).message).toMatch(/^manifest, privacy: .*got no claim/);
    // A sum that was opened and left out was paid for too.
    const dear = release.privacy!.rho * 2;
    const dearer = { rho: dear, epsilon: epsilonOfRho(dear, 1e-5) };
    const honest = house.manifestOf(release, { privacy: { ...release.privacy!, ...dearer } });
    verifyRound({ ...given, manifest: honest });
    expect(claimed({ rho: dear })).toMatch(/^manifest, privacy: ε: expected/);
    expect(claimed({ clipNorm: 9 })).toMatch(/^manifest, privacy: clip norm: expected 10, got 9/);
  });

  test("a sum with one word changed, whether or not the transcript is made to fit", () => {
    const { bits, length } = round.transcript.cohorts[0]!.terms!;
    const [sum] = round.given.sums!;
    for (let at = 0; at < length - 6; at++) {
      const words = unpackBits(sum!, bits, length);
      words[at]! ^= 8;
      const other = packBits(words, bits);
      expect(fault({ ...round.given, sums: [other] }).message).toMatch(/^cohort 1, sum: expected SHA-256/);
      const given = house.retold(round, ({ cohorts }) => (cohorts[0]!.sumHash = sha256(other)));
      expect(fault({ ...given, sums: [other] }).message).toMatch(
        /^adapter by the step taken again: expected/,
      );
    }
    expect(fault({ ...round.given, sums: [] }).message).toMatch(
      /^cohort 1, sum: expected SHA-256 .*, got none/,
    );
  });

  test("an adapter that does not follow from the sum, whose manifest names it", () => {
    const wrong = house.adapterOf(round.spec.plan, "wrong");
    const named = { adapter: { sha256: sha256Hex(wrong), bytes: wrong.length } };
    const manifest = house.manifestOf(round.release, named);
    expect(fault({ ...round.given, manifest, adapter: wrong }).message).toMatch(/^adapter by the step taken/);
    expect(fault({ ...round.given, adapter: wrong }).message).toMatch(/^adapter: expected/);
    expect(fault({ ...round.given, parent: wrong }).message).toMatch(/^parent's adapter: expected/);
  });

  test("a strategy's state that is not the one of before, or was forgotten", () => {
    const other = later.given.state!.slice();
    other[other.length - 1]! ^= 1;
    expect(fault({ ...later.given, state: other }).message).toMatch(/^state before the step: expected/);
    const lied = house.retold(later, (it) => (it.stateBefore = sha256(other)));
    expect(fault({ ...lied, state: other }).message).toMatch(/^state before the step: expected/);
    const unnoticed = fault({ ...lied, state: other, previous: undefined });
    expect(unnoticed.message).toMatch(/^adapter by the step taken again/);
    const forgot = house.retold(later, (it) => (it.stateBefore = new Uint8Array()));
    expect(fault(forgot).message).toMatch(/^state before the step, bytes of its hash: expected 32, got 0/);
  });

  test("the transcript of another round in place of the one before", () => {
    expect(fault({ ...later.given, previous: round.given.transcript }).message).toMatch(
      /^previous transcript/,
    );
  });
});
