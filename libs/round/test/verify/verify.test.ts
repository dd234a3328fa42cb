import { utf8 } from "@tutti/foundation/bytes";
import { Fault } from "@tutti/foundation/fault";
import { sha256, sha256Hex } from "@tutti/foundation/hash";
import { newSeed, signingKey } from "@tutti/identity/keys";
import { packBits, unpackBits } from "@tutti/kernels/pack";
import { envelopeJson, signEnvelope } from "@tutti/release/dsse";
import type { Release } from "@tutti/release/manifest";
import { signPlan } from "@tutti/release/plan";
import { create, decode, encode } from "@tutti/wire/message";
import { type CohortTranscript, type Transcript, TranscriptSchema } from "@tutti/wire/transcript";
import { wireBytes } from "@tutti/wire/wire-format";
import { beforeAll, describe, expect, test } from "vitest";
import { random } from "../../../secagg/test/federation.ts";
import { decodeTranscript, MAX_COHORTS, TRANSCRIPT } from "../../src/transcript.ts";
import { type Given, verifyRound } from "../../src/verify.ts";
import * as house from "./played.ts";

/** docs/protocol.md, Transcript: what a third party finds, and what it finds out. */

const MOMENTUM = { server: { name: "momentum", learningRate: 0.5, beta: 0.9 } };
let round: house.PlayedRound;
let later: house.PlayedRound;
let judged: house.PlayedRound;
let many: house.PlayedRound;
let noised: house.PlayedRound;
beforeAll(async () => {
  round = await house.playRound({});
  later = await house.playRound({ plan: MOMENTUM, round: 1 });
  judged = await house.playRound({ round: 2 });
  const privacy = { mode: "distributed", noiseMultiplier: 2 };
  noised = await house.playRound({ plan: { ...MOMENTUM, privacy }, round: 1 });
  many = await house.playRound({ plan: { cohort: { min: 3, max: 10, count: 4 } }, dealt: 4 });
});

const NONE = {
  manifest: undefined,
  adapter: undefined,
  sums: undefined,
  parent: undefined,
  state: undefined,
  previous: undefined,
};

function fault(given: Given): Fault {
  try {
    verifyRound(given);
  } catch (error) {
    if (error instanceof Fault) return error;
    throw error;
  }
  throw new Error("it was taken for good");
}

/** The first thing wrong with a transcript that the coordinator changed and signed anew. */
function found(change: (transcript: Transcript, cohort: CohortTranscript) => void): string {
  const { code, message } = fault(house.retold(round, (it) => change(it, it.cohorts[0]!)));
  expect(code, message).toBe("refused");
  return message;
}

describe("a round that went as it is told", () => {
  test("is found good, down to the step; what was not given is said to be unchecked", () => {
    const all = verifyRound(round.given);
    expect(all.unchecked).toEqual([]);
    expect(all.checks.map(({ what }) => what)).toEqual([
      "transcript",
      "plan",
      "task",
      ...["terms", "members", "session", "sets", "attestations"].map((what) => `cohort 1, ${what}`),
      "sum",
      "manifest",
      "adapter",
      "step",
    ]);
    expect(all.record).toMatchObject({ survivors: 3, examples: expect.closeTo(30, 3) });
    expect(all.digest).toBe(round.release.transcript);
    const bare = verifyRound({ ...round.given, ...NONE });
    expect(bare.unchecked).toEqual(["sum", "manifest", "adapter", "step"]);
  });

  test("with a rule that remembers: the step needs its state, which is what the last round left", () => {
    expect(verifyRound(later.given).unchecked).toEqual([]);
    const { state: _, ...without } = later.given;
    expect(verifyRound({ ...without, previous: undefined }).unchecked).toEqual(["previous", "step"]);
  });

  test("of evaluation makes no release, and has its sum", () => {
    const { unchecked, record } = verifyRound(judged.given);
    expect(unchecked).toEqual([]);
    expect(record).toMatchObject({ loss: expect.closeTo(0.5, 3) });
    const named = { transcript: sha256Hex(judged.given.file), version: 3, round: 2 };
    const claimed = house.manifestOf(judged.release, named);
    expect(fault({ ...judged.given, manifest: claimed }).message).toMatch(/^manifest: expected none/);
  });

  test("can be checked after its certificates expired, and not before it was", () => {
    verifyRound({ ...round.given, nowS: house.NOW_S + 1_000_000 });
    expect(fault({ ...round.given, nowS: house.NOW_S - 1000 }).message).toMatch(/^transcript, time/);
  });
});

describe("bytes", () => {
  test("of the file: any one changed, and it is not what the coordinator signed", () => {
    const { file } = round.given;
    for (let at = 0; at < file.length; at += 23) {
      const changed = file.slice();
      changed[at]! ^= 1;
      expect(["refused", "bad-message", "bad-input"], `byte ${at}`).toContain(
        fault({ ...round.given, ...NONE, file: changed }).code,
      );
    }
  });

  const member = ({ cohorts }: Transcript) => cohorts[0]!.members[1]!;
  test.each<[string, (transcript: Transcript) => Uint8Array, RegExp]>([
    ["certificate", (it) => member(it).certificate!.body, /certificate|tutti.v1.CertificateBody/],
    ["authority's signature", (it) => member(it).certificate!.signature, /certificate of d01.*signature/],
    ["device key", (it) => member(it).certificate!.subjectKey, /certificate of d01.*binding/],
    ["binding", (it) => member(it).certificate!.binding, /certificate of d01.*binding/],
    ["envelope key", (it) => member(it).envelopeKey, /(envelope key|keys) of d01/],
    ["mask key", (it) => member(it).maskKey, /(mask key|keys) of d01/],
    ["advertisement", (it) => member(it).signature, /keys of d01.*its signature/],
    ["model hash", (it) => it.cohorts[0]!.terms!.modelHash, /cohort 1, terms: model hash/],
    ["task hash", (it) => it.cohorts[0]!.terms!.taskHash, /cohort 1, terms: task hash/],
    ["attestation", (it) => it.cohorts[0]!.attested[2]!.signature, /attestations: expected d02's signature/],
    ["sum hash", (it) => it.cohorts[0]!.sumHash, /^cohort 1, sum: /],
    ["state after", (it) => it.stateAfter, /^state after the step/],
    ["task's parent", (it) => it.task!.parent, /^parent, digest/],
    ["plan", (it) => it.plan!.payload, /^envelope signature/],
    ["plan's signature", (it) => it.plan!.signatures[0]!.sig, /^envelope signature/],
    ["parent's manifest", (it) => it.parent!.payload, /^envelope signature/],
    ["parent's signature", (it) => it.parent!.signatures[0]!.sig, /^envelope signature/],
  ])("of the %s: any one changed, and it is named, though the coordinator signed it", (_name, of, said) => {
    const { length } = of(round.transcript);
    // A payload is one hash to its signature: some bytes of a long one will do.
    for (let at = 0; at < length; at += length > 400 ? 7 : 1) {
      const given = house.retold(round, (transcript) => {
        of(transcript)[at]! ^= 1;
      });
      const { code, message } = fault(given);
      expect(["refused", "bad-message"], `byte ${at}: ${message}`).toContain(code);
      expect(message, `byte ${at}`).toMatch(said);
    }
  });

  test("for more members than a round can have are refused before one is built", () => {
    const members = new Uint8Array(1001 * 2);
    for (let at = 0; at < members.length; at += 2) members[at] = 0x12;
    const cohort = wireBytes(5, members);
    expect(() => decodeTranscript(cohort)).toThrow(
      "CohortTranscript.members: expected at most 1000, got more",
    );
    expect(decodeTranscript(wireBytes(5, members.slice(2))).cohorts[0]!.members).toHaveLength(1000);
    const cohorts = new Uint8Array((MAX_COHORTS + 1) * 2);
    for (let at = 0; at < cohorts.length; at += 2) cohorts[at] = 0x2a;
    expect(() => decodeTranscript(cohorts)).toThrow("Transcript.cohorts: expected at most 100");
    const twice = wireBytes(1, new Uint8Array());
    expect(() => decodeTranscript(Uint8Array.from([...twice, ...twice]))).toThrow("Transcript.plan");
  });
});

describe("who signed", () => {
  test("another authority than the checker's", () => {
    const other = signingKey(newSeed(random)).publicKey;
    expect(fault({ ...round.given, authority: other }).message).toMatch(
      /certificate of coordinator-22.*auth/,
    );
  });

  test("an owner in the coordinator's place, the coordinator in the owner's", () => {
    const file = house.signed(round.transcript, house.OWNER);
    expect(fault({ ...round.given, file }).message).toMatch(/owner-21.*role coordinator/);
    const plan = signPlan(round.spec.plan, house.COORDINATOR);
    expect(found((it) => (it.plan = plan))).toMatch(/coordinator-22.*role owner/);
  });

  test("another kind of statement by the same coordinator", () => {
    const payload = encode(TranscriptSchema, round.transcript);
    const file = utf8(envelopeJson(signEnvelope("application/other", payload, house.COORDINATOR)));
    expect(fault({ ...round.given, file }).message).toMatch(/^transcript, type/);
  });

  test("a moment at which the certificates were not valid", () => {
    expect(found((it) => (it.checkedAtS -= 3600))).toMatch(/certificate of .* already valid/);
  });
});

describe("what was asked", () => {
  test("another run, a round that the plan has not, another kind of task", () => {
    expect(found((it) => (it.task!.run = "ff".repeat(32)))).toMatch(/^task, run/);
    expect(found((it) => (it.task!.round = 3))).toMatch(/^task: expected training before round 2/);
    expect(found((it) => (it.task!.kind = 2))).toMatch(/^task: expected training before round 2/);
    expect(found((it) => (it.task!.round = 1))).toMatch(/^parent, version/);
  });

  test("a parent of another run, though the task names it", () => {
    const message = found((it) => {
      it.parent = house.manifestOf(round.release, { run: "ff".repeat(32), version: 0 });
      it.task!.parent = sha256(it.parent.payload);
    });
    expect(message).toMatch(/^parent, run/);
  });

  test.each(["run", "round", "bits", "length", "plain", "corrupt", "lost"] as const)(
    "terms with another %s",
    (field) => {
      const message = found((_, { terms }) => {
        const value = terms![field];
        Object.assign(terms!, {
          [field]: typeof value === "number" ? value + 1 : field === "run" ? "ff" : true,
        });
      });
      expect(message).toMatch(new RegExp(`^cohort 1, terms: ${field}`));
    },
  );

  test("another attempt than the one whose keys were signed", () => {
    expect(found((_, { terms }) => terms!.attempt++)).toMatch(/keys of d00: expected its signature/);
  });
});

describe("who was in the sum", () => {
  test("a device's keys of another attempt, and a certificate that another device has", async () => {
    const again = await house.playRound({ attempt: 2 });
    const theirs = again.transcript.cohorts[0]!.members[0]!;
    expect(found((_, { members }) => (members[0] = theirs))).toMatch(/keys of d00: expected its signature/);
    const moved = found((_, { members }) => {
      members[0]!.certificate = members[1]!.certificate!;
    });
    expect(moved).toMatch(/keys of d01: expected its signature/);
  });

  test("names in another order, or twice", () => {
    const swap = <T>(list: T[]) => ([list[0], list[1]] = [list[1]!, list[0]!]);
    const order = /expected each name once, ascending/;
    expect(found((_, { members }) => swap(members))).toMatch(order);
    expect(found((_, { senders }) => swap(senders))).toMatch(order);
    expect(found((_, { survivors }) => swap(survivors))).toMatch(order);
    expect(found((_, { attested }) => swap(attested))).toMatch(order);
    expect(found((_, { members }) => members.unshift(members[0]!))).toMatch(order);
    expect(found((_, { attested }) => attested.unshift(attested[0]!))).toMatch(order);
  });

  test("one name exchanged for another, added or left out", () => {
    const signature = /attestations: expected d00's signature over this session's/;
    expect(found((_, { members }) => members.pop())).toMatch(/senders: expected devices of the stage before/);
    expect(found((_, { senders }) => senders.splice(3, 1))).toMatch(signature);
    expect(found((_, { senders }) => senders.push("zoe"))).toMatch(/senders: expected devices of the stage/);
    expect(found((_, { survivors }) => survivors.push("d03"))).toMatch(signature);
    expect(found((_, { survivors }) => survivors.push("zoe"))).toMatch(/survivors: .*got zoe/);
    expect(found((_, { survivors }) => survivors.splice(2, 1, "d03"))).toMatch(signature);
    expect(found((_, { survivors }) => survivors.pop())).toMatch(/survivors: expected at least 3, got 2/);
  });

  test("a signer fewer than the quorum, or one who is no survivor", () => {
    expect(found((_, { attested }) => attested.pop())).toMatch(/attestations: expected at least 3, got 2/);
    const stranger = found((_, { attested }) => {
      attested[2]!.device = "d03";
    });
    expect(stranger).toMatch(/attestations: expected signatures of survivors, got one of d03/);
  });

  test("one cohort told twice, or none that counted", () => {
    const pushed = found(({ cohorts }) => cohorts.push(cohorts[0]!));
    expect(pushed).toMatch(/^cohorts, dealt: expected 1..1, with the 2/);
    const twice = fault(house.retold(many, (it) => it.cohorts.push(it.cohorts[0]!)));
    expect(twice.message).toMatch(/keys of d00: expected keys of its own/);
    expect(found((_, cohort) => (cohort.counted = false))).toMatch(
      /^cohorts: expected at least 1 that counted/,
    );
    expect(found(({ cohorts }) => cohorts.pop())).toMatch(/^cohorts: expected at least 1 that counted/);
  });

  test("fewer cohorts than a rule wants, or a good one left out", async () => {
    const cohort = { min: 3, max: 10, count: 4, combine: "median" };
    const one = await house.playRound({ plan: { cohort }, dealt: 4 });
    expect(fault(one.given).message).toMatch(/^cohorts: expected at least 3 that counted, got 1/);
    expect(fault(house.retold(one, (it) => (it.dealt = 1))).message).toMatch(
      /^cohorts, dealt: expected 3..4/,
    );
    const left = house.retold(many, ({ cohorts }) => {
      const other = { ...cohorts[0]!, counted: false };
      cohorts.splice(0, 1, other);
    });
    expect(fault(left).message).toMatch(/^cohorts: expected at least 1 that counted/);
  });

  test("picks where everyone shares with everyone", () => {
    const pick = { $typeName: "tutti.v1.Pick" as const, member: 0, holders: new Uint8Array(2) };
    const message = found((_, { picks }) => picks.push({ ...pick, signature: new Uint8Array(64) }));
    expect(message).toMatch(/^cohort 1, picks: expected none, got 1/);
  });

  test("fewer or more devices than the plan allows", async () => {
    const wide = await house.playRound({ plan: { cohort: { min: 4, max: 10 } } });
    expect(fault(wide.given).message).toMatch(/survivors: expected 4..10, as the plan says, got 3/);
  });
});

describe("a sum over more than 100", () => {
  const cohort = { min: 3, max: 200 };
  let wide: house.PlayedRound;
  beforeAll(async () => {
    wide = await house.playRound({ plan: { cohort, rounds: 1 }, round: 1, devices: 101 });
  }, 120_000);
  const wrong = (change: (cohort: CohortTranscript) => void) => {
    return fault(house.retold(wide, ({ cohorts }) => change(cohorts[0]!))).message;
  };

  test("is found good, with the holders that each device picked", () => {
    const { checks, unchecked } = verifyRound(wide.given);
    expect(unchecked).toEqual([]);
    const session = checks.find(({ what }) => what === "cohort 1, session")!.found;
    expect(session).toMatch(/, threshold \d+ of \d+ share-holders$/);
    expect(wide.transcript.cohorts[0]!.picks).toHaveLength(101);
  });

  test("a pick changed, moved, exchanged, or too many left out", () => {
    const signature = /^cohort 1, picks: expected d001's signature, got another/;
    const [, first, second] = wide.transcript.cohorts[0]!.picks;
    for (let at = 0; at < first!.signature.length; at += 31)
      expect(wrong(({ picks }) => (picks[1]!.signature[at]! ^= 1))).toMatch(signature);
    expect(wrong(({ picks }) => (picks[1]!.holders = second!.holders))).toMatch(signature);
    expect(wrong(({ picks }) => (picks[1]!.holders = new Uint8Array()))).toMatch(signature);
    expect(wrong(({ picks }) => picks.reverse())).toMatch(/picks: expected members of the roster, each once/);
    expect(wrong(({ picks }) => (picks.at(-1)!.member = 101))).toMatch(
      /picks: expected members of the roster/,
    );
    expect(wrong(({ picks }) => picks.splice(0, 11))).toMatch(/picks: expected at least 91, got 90/);
    // Within what may be lost, but the others signed for the graph with it.
    expect(wrong(({ picks }) => picks.pop())).toMatch(/senders: expected devices of the stage before/);
  });
});

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
    const given = { ...noised.given, sums: undefined };
    expect(verifyRound(given).transcript.cohorts[0]!.privacy!.rho).toBeGreaterThan(0);
    const spent = (change: object) => {
      const it = house.retold(noised, ({ cohorts }) => Object.assign(cohorts[0]!.privacy!, change));
      return fault({ ...it, sums: undefined }).message;
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
    // An attempt that failed was paid for too.
    const dearer = { privacy: { ...release.privacy!, rho: release.privacy!.rho * 2 } };
    verifyRound({ ...given, manifest: house.manifestOf(release, dearer) });
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
    expect(fault({ ...later.given, previous: round.given.file }).message).toMatch(/^previous transcript/);
  });
});

test("a transcript's bytes and back", () => {
  const bytes = encode(TranscriptSchema, round.transcript);
  expect(encode(TranscriptSchema, decodeTranscript(bytes))).toEqual(bytes);
  expect(() => decode(TranscriptSchema, bytes, bytes.length - 1)).toThrow("at most");
  expect(TRANSCRIPT).toBe("application/vnd.tutti.transcript+protobuf");
  expect(create(TranscriptSchema).cohorts).toEqual([]);
});
