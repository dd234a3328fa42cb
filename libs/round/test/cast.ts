import { platformRandom } from "@tutti/foundation/random";
import { bind, issue } from "@tutti/identity/certificate";
import { newSeed, signingKey } from "@tutti/identity/keys";
import { type Plan, parsePlan } from "@tutti/plan/plan";
import { DEFAULT_FLOOR, type Member, memoryLedger } from "@tutti/secagg/device/member";
import { nativeAgree, rememberingVerify } from "../../secagg/test/native.ts";
import type { Trust } from "../src/summing.ts";

/** Plans, trust and devices that the tests of rounds and of their driver share. */

export const NOW_S = 1_800_000_000;
export const random = platformRandom();
export const authority = signingKey(newSeed(random));
export const TRUST: Trust = {
  authority: authority.publicKey,
  nowS: NOW_S,
  verify: rememberingVerify,
  agree: nativeAgree,
};

/** A plan with two small tensors, changed where a test asks. */
export function planOf(change: Partial<Record<keyof Plan, unknown>> = {}): Plan {
  const value = {
    version: 1,
    name: "story",
    base: { sha256: "ab".repeat(32), bytes: 1000 },
    tensors: [
      { name: "w.A", shape: [2, 3] },
      { name: "w.B", shape: [4, 2] },
    ],
    initial: { sha256: "cd".repeat(32), bytes: 500 },
    adapter: { method: "fedit", rank: 2, alpha: 4, targets: "all-linear" },
    loss: "softmax-cross-entropy",
    train: { optimiser: { name: "sgd", learningRate: 0.1 }, steps: 1, batchSize: 4 },
    rounds: 1,
    cohort: { min: 3, max: 10 },
    ...change,
    deadlines: { joinMs: 60_000, ...(change.deadlines as object | undefined) },
  };
  return parsePlan(new TextEncoder().encode(JSON.stringify(value)));
}

/** Signing keys cost milliseconds each: every test has the same ones, with ledgers of its own. */
const known = new Map<string, Member>();

export function memberOf(name: string): Member {
  const member = known.get(name) ?? enrolled(name);
  known.set(name, member);
  return { ...member, ledger: memoryLedger() };
}

function enrolled(name: string): Member {
  const token = signingKey(newSeed(random));
  const key = signingKey(newSeed(random));
  const grant = issue(authority, {
    role: "device",
    name,
    publicKey: token.publicKey,
    notBeforeS: NOW_S - 1000,
    notAfterS: NOW_S + 100_000,
    serial: random.bytes(16),
  });
  const certificate = bind(grant, token, key.publicKey);
  return { name, certificate, key, ...TRUST, floor: DEFAULT_FLOOR, random, ledger: memoryLedger() };
}
