import { writeTensors } from "@tutti/adapter/formats/safetensors";
import { utf8 } from "@tutti/foundation/bytes";
import { sha256, sha256Hex } from "@tutti/foundation/hash";
import { seededRandom } from "@tutti/foundation/random";
import { issue, type Role } from "@tutti/identity/certificate";
import { type SigningKey, signingKey } from "@tutti/identity/keys";
import { packBits } from "@tutti/kernels/pack";
import { epsilonOfRho } from "@tutti/privacy/accountant";
import { envelopeJson, type Signer, signEnvelope } from "@tutti/release/dsse";
import { type Release, releaseOf, signRelease } from "@tutti/release/manifest";
import { signPlan } from "@tutti/release/plan";
import { unmask } from "@tutti/secagg/server/session";
import { ruleOf } from "@tutti/strategy/rule";
import { layoutOf, unflatten } from "@tutti/update/layout";
import { quantise } from "@tutti/update/quantise";
import { create, decode, encode } from "@tutti/wire/message";
import type { SignedEnvelope } from "@tutti/wire/release";
import type { Task } from "@tutti/wire/round";
import { type Transcript, TranscriptSchema } from "@tutti/wire/transcript";
import { authority, close, during, NOW_S, names, TRUST, upTo } from "../../../secagg/test/federation.ts";
import { sizeOf } from "../../src/privacy.ts";
import { nextFiles, readSum } from "../../src/result.ts";
import { firstHeader, taskOf } from "../../src/run.ts";
import { activeLayout, type RoundSpec, scaleOf, termsOf } from "../../src/spec.ts";
import { TRANSCRIPT, transcriptOf } from "../../src/transcript.ts";
import type { Given } from "../../src/verify.ts";
import { planOf } from "../cast.ts";

/** A round of devices, one lost before its vector, played by real code; and what is published of it. */

export { authority, NOW_S, TRUST };

export function signerOf(role: Role, seed: number, by: SigningKey = authority): Signer {
  const key = signingKey(new Uint8Array(32).fill(seed));
  const statement = { role, name: `${role}-${seed}`, publicKey: key.publicKey, serial: Uint8Array.of(seed) };
  return { key, certificate: issue(by, { ...statement, notBeforeS: NOW_S - 500, notAfterS: NOW_S + 500 }) };
}

export const OWNER = signerOf("owner", 21);
export const COORDINATOR = signerOf("coordinator", 22);

/** What a plan with noise has cost before a later round. */
const SPENT = { clipNorm: 10, rho: 0.25, epsilon: 4 };

type Options = {
  readonly plan?: Parameters<typeof planOf>[0];
  /** 0 by default; `plan.rounds` evaluates. */
  readonly round?: number;
  readonly attempt?: number;
  readonly devices?: number;
  /** Cohorts that the round says it was dealt into; one is played. */
  readonly dealt?: number;
  /** And another one, whose devices say the same. */
  readonly twins?: boolean;
};

export type PlayedRound = {
  readonly spec: RoundSpec;
  readonly transcript: Transcript;
  readonly release: Release;
  /** All files that a third party could have. */
  readonly given: Given;
};

export async function playRound({
  plan: change = {},
  round = 0,
  attempt = 1,
  devices = 4,
  dealt = 1,
  twins = false,
}: Options): Promise<PlayedRound> {
  const drawn = adapterOf(planOf(), "parent");
  const plan = planOf({ initial: { sha256: sha256Hex(drawn), bytes: drawn.length }, rounds: 2, ...change });
  const papers = { plan: signPlan(plan, OWNER) };
  const run = sha256Hex(papers.plan.payload);
  const state = stateOf(plan, round);
  const previous = round === 0 ? undefined : signed(create(TranscriptSchema, { stateAfter: hashOf(state) }));
  const parent = releaseOf(plan, {
    run,
    version: round,
    round: Math.max(0, round - 1),
    adapter: { sha256: sha256Hex(drawn), bytes: drawn.length },
    parent: round === 0 ? null : "77".repeat(32),
    cohorts: round === 0 ? [] : [4],
    transcript: previous ? sha256Hex(previous) : null,
    ...(round > 0 && { spent: SPENT }),
    wallMs: NOW_S * 1000,
  });
  const manifest = signRelease(parent, COORDINATOR);
  const digest = sha256Hex(manifest.payload);
  const header = { ...firstHeader({ version: round, manifest: digest, adapter: sha256Hex(drawn) }), round };
  const task = taskOf(run, plan, header);
  const spec = { plan, task, attempt, expected: new Set<string>() };
  const cohorts = [await play(spec, names(devices))];
  const others = names(devices).map((name) => `twin-of-${name}`);
  if (twins) cohorts.push(await play(spec, others, (twin) => twin.slice("twin-of-".length)));
  const { sum, plain } = cohorts[0]!;
  // Of two sums that are the same the mean is that of one.
  const { mean } = readSum(spec, plain, { devices: devices - 1, size: sizeOf(sum.session.group!) });
  const trains = round < plan.rounds;
  const next = trains ? nextFiles(spec, { parent: drawn, mean, held: state }) : undefined;
  const transcript = transcriptOf(
    { spec, trust: TRUST },
    {
      papers: { ...papers, parent: manifest },
      cohorts,
      dealt,
      states: { before: trains ? hashOf(state) : new Uint8Array(), after: hashOf(next?.held) },
    },
  );
  const file = signed(transcript);
  const rho = (round > 0 ? SPENT.rho : 0) + (transcript.cohorts[0]!.privacy?.rho ?? 0);
  const adapter = next?.adapter;
  const release = releaseOf(plan, {
    run,
    version: round + 1,
    round,
    adapter: { sha256: sha256Hex(adapter ?? drawn), bytes: (adapter ?? drawn).length },
    parent: digest,
    cohorts: cohorts.map(() => devices - 1),
    transcript: sha256Hex(file),
    spent: { ...SPENT, rho, epsilon: epsilonOfRho(rho, 1e-5) },
    wallMs: NOW_S * 1000,
  });
  const sums = cohorts.map((cohort) => packBits(cohort.plain, plan.secureAggregation.bits));
  const given = { ...TRUST, transcript: file, sums, parent: drawn };
  return {
    spec,
    transcript,
    release,
    given: {
      ...given,
      state,
      previous,
      ...(adapter && { adapter, manifest: signRelease(release, COORDINATOR) }),
    },
  };
}

/** Every stage with real devices; the last one vanishes with its keys out. */
async function play(spec: RoundSpec, devices: readonly string[], like = (device: string) => device) {
  const game = await upTo("mask", devices, termsOf(spec));
  const alive = devices.slice(0, -1);
  for (const device of devices) game.inputs.set(device, wordsOf(spec, like(device)));
  await during(game, "mask", alive);
  close(game);
  await during(game, "attest", alive);
  close(game);
  await during(game, "reveal", alive);
  const { session } = game;
  const sum = { kind: "secure" as const, members: new Set(devices), session };
  return { sum, plain: await unmask(session, game.sum), counted: true };
}

function wordsOf({ plan, task }: { plan: RoundSpec["plan"]; task: Task }, device: string): Uint32Array {
  if (plan.privacy) return new Uint32Array(termsOf({ plan, task, attempt: 0 }).length);
  const chance = seededRandom(device);
  const { length } = activeLayout({ plan, task });
  const update = Float32Array.from({ length }, () => chance.uniform() - 0.5);
  return quantise({ update, weight: 10, metrics: [10, 5, 5, 10, 5] }, scaleOf(plan), chance);
}

export function adapterOf(plan: RoundSpec["plan"], seed: string): Uint8Array {
  const layout = layoutOf(plan.tensors);
  const chance = seededRandom(seed);
  const flat = Float32Array.from({ length: layout.length }, () => chance.uniform());
  return writeTensors(plan.tensors, unflatten(layout, flat));
}

/** The state that a rule would have after some rounds: any numbers will do. */
function stateOf(plan: RoundSpec["plan"], round: number): Uint8Array | undefined {
  if (round === 0) return undefined;
  const rule = ruleOf(plan.server);
  const { length } = layoutOf(plan.tensors);
  return rule.save(rule.begin(length).map((vector) => vector.fill(0.25)));
}

function hashOf(bytes: Uint8Array | undefined): Uint8Array {
  return bytes ? sha256(bytes) : new Uint8Array();
}

/** A transcript's file, signed by the coordinator or whoever tries. */
export function signed(transcript: Transcript, by: Signer = COORDINATOR): Uint8Array {
  return utf8(envelopeJson(signEnvelope(TRANSCRIPT, encode(TranscriptSchema, transcript), by)));
}

/** What a lying coordinator would publish: the transcript changed, signed anew, and named by its manifest. */
export function retold(
  { transcript, release, given }: PlayedRound,
  change: (transcript: Transcript) => void,
): Given {
  const other = decode(TranscriptSchema, encode(TranscriptSchema, transcript), 1 << 20);
  change(other);
  const file = signed(other);
  const manifest = given.manifest && manifestOf(release, { transcript: sha256Hex(file) });
  return { ...given, transcript: file, manifest };
}

export function manifestOf(release: Release, change: Partial<Release>): SignedEnvelope {
  return signRelease({ ...release, ...change }, COORDINATOR);
}
