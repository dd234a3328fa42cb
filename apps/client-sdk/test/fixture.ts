import { fromHex, hex, utf8 } from "@tutti/foundation/bytes";
import { sha256Hex } from "@tutti/foundation/hash";
import { platformRandom } from "@tutti/foundation/random";
import { bind, issue } from "@tutti/identity/certificate";
import { newSeed, type SigningKey, signingKey } from "@tutti/identity/keys";
import { type Plan, parsePlan, planBytes } from "@tutti/plan/plan";
import { openRelease, type Release, signRelease } from "@tutti/release/manifest";
import { signPlan } from "@tutti/release/plan";
import type { Certificate } from "@tutti/wire/device";
import { create } from "@tutti/wire/message";
import { type Invite, InviteSchema, Task_Kind } from "@tutti/wire/round";
import { defaultPolicy, type Policy } from "../src/policy.ts";

export const NOW_S = 1_800_000_000;
export type Party = { readonly name: string; readonly key: SigningKey; readonly certificate: Certificate };

/** A federation for tests: an authority and whoever it certifies. */
export function federation() {
  const random = platformRandom();
  const authority = signingKey(newSeed(random));
  const statement = (role: "owner" | "coordinator" | "device", name: string, publicKey: Uint8Array) => ({
    role,
    name,
    publicKey,
    notBeforeS: NOW_S - 1000,
    notAfterS: NOW_S + 1_000_000,
    serial: random.bytes(16),
  });
  const certified = (role: "owner" | "coordinator", name: string): Party => {
    const key = signingKey(newSeed(random));
    return { name, key, certificate: issue(authority, statement(role, name, key.publicKey)) };
  };
  const device = (name: string): Party => {
    const [token, key] = [signingKey(newSeed(random)), signingKey(newSeed(random))];
    const grant = issue(authority, statement("device", name, token.publicKey));
    return { name, key, certificate: bind(grant, token, key.publicKey) };
  };
  return {
    authority: authority.publicKey,
    random,
    owner: certified("owner", "researcher"),
    coordinator: certified("coordinator", "coordinator"),
    certified,
    device,
  };
}

export type Federation = ReturnType<typeof federation>;

export function policyOf({ owner }: Federation, change: Partial<Policy> = {}): Policy {
  return { ...defaultPolicy([{ name: owner.name, publicKey: hex(owner.key.publicKey) }]), ...change };
}

const SHA = sha256Hex(utf8("anything"));

/** A plan with every default filled in; `change` is laid over the raw JSON, section by section. */
export function planOf(change: Record<string, unknown> = {}): Plan {
  const raw = {
    version: 1,
    base: { sha256: SHA, bytes: 10 },
    tensors: [{ name: "layers.0.lora_A.weight", shape: [2, 4] }],
    initial: { sha256: SHA, bytes: 11 },
    name: "test",
    adapter: { method: "fedit", rank: 2, alpha: 4, targets: "all-linear" },
    loss: "softmax-cross-entropy",
    train: { optimiser: { name: "sgd", learningRate: 0.1 }, steps: 5, batchSize: 8 },
    rounds: 2,
    cohort: { min: 3, max: 3 },
    ...change,
  };
  return parsePlan(planBytes(raw as unknown as Plan));
}

export function releaseOf(plan: Plan, run: string, change: Partial<Release> = {}): Release {
  return {
    run,
    version: 0,
    round: 0,
    base: { sha256: plan.base.sha256 },
    adapter: plan.initial,
    parent: null,
    cohorts: [],
    secureAggregation: plan.secureAggregation.enabled,
    privacy: null,
    transcript: null,
    method: plan.adapter.method,
    rank: plan.adapter.rank,
    alpha: plan.adapter.alpha,
    createdAt: "2026-01-31T12:00:00Z",
    ...change,
  };
}

export function runOf(plan: Plan): string {
  return sha256Hex(planBytes(plan));
}

/** An invitation to a round, signed by whom it should be. */
export function inviteOf(
  by: Federation,
  plan: Plan,
  options: { round?: number; attempt?: number; release?: Release } = {},
): Invite {
  const { round = 0, attempt = 0 } = options;
  const run = runOf(plan);
  const release = options.release ?? releaseOf(plan, run, { version: round, round: Math.max(0, round - 1) });
  const parent = signRelease(release, by.coordinator);
  const { digest } = openRelease(parent, { authority: by.authority, nowS: NOW_S });
  return create(InviteSchema, {
    plan: signPlan(plan, by.owner),
    task: {
      run,
      round,
      kind: round < plan.rounds ? Task_Kind.TRAIN : Task_Kind.EVALUATE,
      parent: fromHex(digest),
    },
    parent,
    attempt,
  });
}
