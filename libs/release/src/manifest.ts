import { utf8 } from "@tutti/foundation/bytes";
import { Fault } from "@tutti/foundation/fault";
import { sha256Hex } from "@tutti/foundation/hash";
import type { Plan } from "@tutti/plan/plan";
import type { SignedEnvelope } from "@tutti/wire/release";
import { openEnvelope, type Signer, signEnvelope, type Trust } from "./dsse.ts";
import {
  exactly,
  type Field,
  flag,
  integer,
  items,
  jsonField,
  member,
  positive,
  sha256Text,
  text,
  timeText,
} from "./fields.ts";

/** The payload type of in-toto attestations (in-toto/attestation, spec/v1/envelope.md). */
export const IN_TOTO = "application/vnd.in-toto+json";
const STATEMENT = "https://in-toto.io/Statement/v1";
const PREDICATE = "https://tutti.dev/release/v1";
const MAX_COHORTS = 10_000;

/** A file by hash and size. */
export type Artifact = { readonly sha256: string; readonly bytes: number };

/**
 * Differential privacy of one device, its whole contribution replaced by zeros (docs/privacy.md): what all
 * sums up to a version together say of a device that was in each, worst case over the cohorts.
 */
export type PrivacyClaim = {
  readonly unit: "device";
  readonly mode: "distributed" | "central" | "local";
  /** The plan's z, and the L2 bound of a device's vector in this version's round. */
  readonly noiseMultiplier: number;
  readonly clipNorm: number;
  /** Of zero-concentrated differential privacy, by the survivors that there really were; and ε of it at δ. */
  readonly rho: number;
  readonly epsilon: number;
  readonly delta: number;
  readonly accountant: typeof ACCOUNTANT;
};
/** Mironov 2017 and Canonne, Kamath and Steinke 2020; no amplification by sampling is claimed. */
const ACCOUNTANT = "rdp, every device in every round";

/** What is said of one published adapter: the predicate of its statement. */
export type Release = {
  /** The run's id: SHA-256 of the signed plan's payload, in hex. */
  readonly run: string;
  /** Counts up by one within a run. */
  readonly version: number;
  /** The round whose step made it. */
  readonly round: number;
  readonly base: { readonly sha256: string };
  readonly adapter: Artifact;
  /** SHA-256 (hex) of the payload of the release before; null for the first. */
  readonly parent: string | null;
  /** Devices in each secure sum behind this version. */
  readonly cohorts: readonly number[];
  readonly secureAggregation: boolean;
  /** Privacy spent by the run up to this version; null: no claim. */
  readonly privacy: PrivacyClaim | null;
  /**
   * SHA-256 (hex) of the signed transcript of the round that made it (docs/protocol.md, Transcript); null for
   * version 0 and where there was no secure sum.
   */
  readonly transcript: string | null;
  readonly method: string;
  readonly rank: number;
  readonly alpha: number;
  /** UTC, as in 2026-01-31T12:00:00Z. */
  readonly createdAt: string;
};

/** When a release was made, as its envelope says, whose signature is not looked at: seconds since 1970. */
export function madeAtS({ payload }: Pick<SignedEnvelope, "payload">): number {
  return Math.floor(Date.parse(decodeStatement(payload).createdAt) / 1000);
}

/** A release and its name: SHA-256 of the signed payload, in hex. */
export type OpenedRelease = { readonly release: Release; readonly digest: string };

/** What a release does not have from its plan. */
type Made = Pick<Release, "run" | "version" | "round" | "adapter" | "parent" | "cohorts" | "transcript"> & {
  /** The round's clip norm and the ρ spent so far; absent: no claim. */
  readonly spent?: { readonly clipNorm: number; readonly rho: number; readonly epsilon: number };

  /** When it was made, on the coordinator's wall clock. */
  readonly wallMs: number;
};

/** The release that a round of a plan's run made; `checkContent` of the device holds the two together. */
export function releaseOf(plan: Plan, made: Made): Release {
  const { run, version, round, adapter, parent, cohorts, transcript, spent, wallMs } = made;
  const { method, rank, alpha } = plan.adapter;
  return {
    run,
    version,
    round,
    base: { sha256: plan.base.sha256 },
    adapter,
    parent,
    cohorts,
    secureAggregation: plan.secureAggregation.enabled,
    privacy: plan.privacy && spent ? claimOf(plan.privacy, spent) : null,
    transcript,
    method,
    rank,
    alpha,
    createdAt: new Date(wallMs).toISOString(),
  };
}

function claimOf(
  { mode, noiseMultiplier, delta }: NonNullable<Plan["privacy"]>,
  spent: NonNullable<Made["spent"]>,
): PrivacyClaim {
  return { unit: "device", mode, noiseMultiplier, ...spent, delta, accountant: ACCOUNTANT };
}

/**
 * Signs a release as an in-toto statement v1 about its adapter; a Fault for fields that no one could open.
 */
export function signRelease(release: Release, coordinator: Signer): SignedEnvelope {
  const payload = utf8(
    JSON.stringify({
      _type: STATEMENT,
      subject: [{ name: "adapter", digest: { sha256: release.adapter.sha256 } }],
      predicateType: PREDICATE,
      predicate: release,
    }),
  );
  decodeStatement(payload);
  return signEnvelope(IN_TOTO, payload, coordinator);
}

/** The release in an envelope that a coordinator of this federation signed, and its digest. */
export function openRelease(envelope: SignedEnvelope, trust: Trust): OpenedRelease {
  const { payload } = openEnvelope(envelope, { ...trust, payloadType: IN_TOTO, role: "coordinator" });
  return { release: decodeStatement(payload), digest: sha256Hex(payload) };
}

/** A Fault("refused") unless the bytes are the artifact that was signed for. */
export function checkArtifact(bytes: Uint8Array, artifact: Artifact, what = "artifact"): void {
  const got = { sha256: sha256Hex(bytes), bytes: bytes.length };
  if (got.sha256 === artifact.sha256 && got.bytes === artifact.bytes) return;
  const told = (it: Artifact) => `${it.bytes} bytes with SHA-256 ${it.sha256}`;
  throw new Fault("refused", what, { expected: told(artifact), got: told(got) });
}

/** Fields unknown to us are passed over, as in-toto's parsing rules ask; those we know must all be right. */
function decodeStatement(payload: Uint8Array): Release {
  const statement = jsonField("release", payload);
  exactly(member(statement, "_type"), STATEMENT);
  exactly(member(statement, "predicateType"), PREDICATE);
  const subjects = items(member(statement, "subject"), 1);
  const predicate = member(statement, "predicate");
  const field = (name: string) => member(predicate, name);
  const adapter = {
    sha256: sha256Text(member(field("adapter"), "sha256")),
    bytes: integer(member(field("adapter"), "bytes"), 1),
  };
  const [subject] = subjects.map((item) => member(member(item, "digest"), "sha256"));
  exactly(subject ?? { path: "release.subject[0]", value: undefined }, adapter.sha256);
  const maybe = (name: string) => (field(name).value === null ? null : sha256Text(field(name)));
  return {
    run: sha256Text(field("run")),
    version: integer(field("version"), 0),
    round: integer(field("round"), 0),
    base: { sha256: sha256Text(member(field("base"), "sha256")) },
    adapter,
    parent: maybe("parent"),
    cohorts: items(field("cohorts"), MAX_COHORTS).map((size) => integer(size, 1)),
    secureAggregation: flag(field("secureAggregation")),
    privacy: field("privacy").value === null ? null : decodeClaim(field("privacy")),
    transcript: maybe("transcript"),
    method: text(field("method"), /^[a-z0-9-]{1,32}$/, "1..32 lower-case letters, digits, dashes"),
    rank: integer(field("rank"), 1),
    alpha: positive(field("alpha")),
    createdAt: timeText(field("createdAt")),
  };
}

function decodeClaim(claim: Field): PrivacyClaim {
  const field = (name: string) => member(claim, name);
  return {
    unit: exactly(field("unit"), "device"),
    mode: text(field("mode"), /^(distributed|central|local)$/, "a mode") as PrivacyClaim["mode"],
    noiseMultiplier: positive(field("noiseMultiplier")),
    clipNorm: positive(field("clipNorm")),
    rho: positive(field("rho")),
    epsilon: positive(field("epsilon")),
    delta: positive(field("delta")),
    accountant: exactly(field("accountant"), ACCOUNTANT),
  };
}
