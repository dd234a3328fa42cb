import { create, decode, encode } from "@tutti/wire/message";
import { type Transcript, TranscriptSchema } from "@tutti/wire/transcript";
import { wireBytes } from "@tutti/wire/wire-format";
import { beforeAll, describe, expect, test } from "vitest";
import { decodeTranscript, MAX_COHORTS, TRANSCRIPT } from "../../src/transcript.ts";
import { fault, NONE } from "./caught.ts";
import * as house from "./played.ts";

/** docs/protocol.md, Transcript: nothing that is signed or hashed can be changed by a byte. */

let round: house.PlayedRound;
beforeAll(async () => {
  round = await house.playRound({});
});

describe("bytes", () => {
  test("of the file: any one changed, and it is not what the coordinator signed", () => {
    const { transcript: file } = round.given;
    for (let at = 0; at < file.length; at += 23) {
      const changed = file.slice();
      changed[at]! ^= 1;
      expect(["refused", "bad-message", "bad-input"], `byte ${at}`).toContain(
        fault({ ...round.given, ...NONE, transcript: changed }).code,
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

test("a transcript's bytes and back", () => {
  const bytes = encode(TranscriptSchema, round.transcript);
  expect(encode(TranscriptSchema, decodeTranscript(bytes))).toEqual(bytes);
  expect(() => decode(TranscriptSchema, bytes, bytes.length - 1)).toThrow("at most");
  expect(TRANSCRIPT).toBe("application/vnd.tutti.transcript+protobuf");
  expect(create(TranscriptSchema).cohorts).toEqual([]);
});
