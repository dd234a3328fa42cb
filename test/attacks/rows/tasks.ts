import { sha256Hex } from "@tutti/foundation/hash";
import { seededRandom } from "@tutti/foundation/random";
import { mlp } from "@tutti/graph/make/mlp";
import { write } from "@tutti/graph/write";
import { issue } from "@tutti/identity/certificate";
import { newSeed, signingKey } from "@tutti/identity/keys";
import type { Plan } from "@tutti/plan/plan";
import type { Signer } from "@tutti/release/dsse";
import { againstDevice, type Lab } from "../harness/lab.ts";
import { nowS, random } from "../harness/world.ts";
import { type Outcome, patch, type Scenario, without, worked } from "../scenario.ts";

const FETCH = "apps/client-sdk/src/fetch.ts";
const TRAINER = "apps/client-sdk/src/trainer.ts";
const CHECK = "apps/client-sdk/src/check.ts";

/** An owner's certificate by the authority, or by somebody else in its name. */
function ownerBy(lab: Lab, sign?: (bytes: Uint8Array) => Uint8Array): Signer {
  const key = signingKey(newSeed(random));
  const about = { role: "owner", name: "owner", publicKey: key.publicKey, serial: random.bytes(16) } as const;
  const authority = sign ? { ...lab.world.authority, sign } : lab.world.authority;
  const certificate = issue(authority, { ...about, notBeforeS: nowS() - 60, notAfterS: nowS() + 3600 });
  return { key, certificate };
}

async function trained(lab: Lab, invite: ReturnType<Lab["invite"]>, what: string): Promise<Outcome> {
  await lab.victim.train(invite);
  return worked(`trained, and said that it is ready: ${what}`);
}

/** Another model of the very same size. */
function otherBase(): Uint8Array {
  return write(mlp({ inputs: 4, hidden: [32], outputs: 3, random: seededRandom("another model") }));
}

/** The owner's own plan, changed after it was signed. */
function altered(lab: Lab) {
  const invite = lab.invite({ plan: { ...lab.plan, update: { ...lab.plan.update, maxWeight: 999 } } });
  const signed = lab.invite().plan!.signatures;
  return { ...invite, plan: { ...invite.plan!, signatures: signed } };
}

export const TASKS: readonly Scenario[] = [
  {
    row: 5,
    name: "a task of the kind that another round has, so that the victim alone trains in it",
    harness: "coordinator",
    mutations: [
      without(
        "a task's kind follows from the plan and its round",
        patch(CHECK, 'must("invitation, task", trains || judges,', 'must("invitation, task", true,'),
      ),
    ],
    run: againstDevice(async (lab) => {
      // Round 1 of a plan of one round evaluates; the victim is asked to train in it.
      const invite = lab.invite({ round: 1 });
      return await trained(
        lab,
        { ...invite, task: { ...invite.task!, kind: 1 } },
        "in a round that evaluates",
      );
    }),
  },
  {
    row: 6,
    name: "a plan whose tensors are not those that the adapter has under the base",
    harness: "coordinator",
    mutations: [
      without(
        "the device resolves the adapter itself, and compares",
        patch(TRAINER, "demand(here[i] === there[i],", "demand(true,"),
      ),
    ],
    run: againstDevice(async (lab) => {
      const plan: Plan = { ...lab.plan, tensors: [...lab.plan.tensors].reverse() };
      return await trained(lab, lab.invite({ plan }), "for tensors in the places of others");
    }),
  },
  {
    row: 6,
    name: "another base model than the plan's, served under its hash",
    harness: "coordinator",
    mutations: [
      without(
        "the hash of what is fetched, and again of what is trained",
        patch(FETCH, "sha256Hex(data) === sha256;", "true;"),
        patch(TRAINER, "got === plan.base.sha256,", "true,"),
      ),
    ],
    run: againstDevice(async (lab) => {
      const base = otherBase();
      if (base.length !== lab.prepared.base.length) return { kind: "broken", why: "a base of another size" };
      lab.attacker.files.set(lab.plan.base.sha256, base);
      return await trained(
        lab,
        lab.invite(),
        `on ${sha256Hex(base) === lab.plan.base.sha256 ? "the" : "another"} base`,
      );
    }),
  },
  {
    row: 6,
    name: "a plan that was changed after its owner signed it",
    harness: "coordinator",
    mutations: [
      without(
        "the owner's signature on a plan",
        patch(
          "libs/release/src/dsse.ts",
          "demand(verify(signer.publicKey, pae(payloadType, payload), sig), () => {",
          "demand(true, () => {",
        ),
      ),
    ],
    run: againstDevice((lab) => trained(lab, altered(lab), "for a plan that no owner signed")),
  },
  {
    row: 6,
    name: "a plan by an owner of the federation whom the site did not approve",
    harness: "coordinator",
    mutations: [
      without(
        "the owners in the site's policy, by name and key",
        patch("apps/client-sdk/src/policy.ts", 'rule(isApproved(policy, owner), "run', 'rule(true, "run'),
      ),
    ],
    run: againstDevice((lab) =>
      trained(lab, lab.invite({ owner: ownerBy(lab) }), "for an owner of no approval"),
    ),
  },
  {
    row: 9,
    name: "a plan for cohorts of two",
    harness: "coordinator",
    mutations: [
      without(
        "the policy's smallest cohort",
        patch(
          "apps/client-sdk/src/policy.ts",
          "!secureAggregation.enabled || cohort.min >= policy.floor.devices,",
          "true,",
        ),
      ),
    ],
    run: againstDevice((lab) => {
      const plan: Plan = { ...lab.plan, cohort: { ...lab.plan.cohort, min: 2 } };
      return trained(lab, lab.invite({ plan }), "for a sum of two");
    }),
  },
  {
    row: 9,
    name: "a plan without secure aggregation",
    harness: "coordinator",
    mutations: [
      without(
        "the policy asks for secure aggregation",
        patch(
          "apps/client-sdk/src/policy.ts",
          "secureAggregation.enabled || !policy.requireSecureAggregation,",
          "true,",
        ),
      ),
    ],
    run: againstDevice((lab) => {
      const plan: Plan = {
        ...lab.plan,
        secureAggregation: { ...lab.plan.secureAggregation, enabled: false },
      };
      return trained(lab, lab.invite({ plan }), "for a sum in the clear");
    }),
  },
];
