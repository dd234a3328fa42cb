import { fromHex, hex } from "@tutti/foundation/bytes";
import { demand } from "@tutti/foundation/check";
import { Fault } from "@tutti/foundation/fault";
import type { Identity } from "@tutti/identity/certificate";
import type { Plan } from "@tutti/plan/plan";
import { DEFAULT_FLOOR, type Floor } from "@tutti/secagg/device/member";
import { type Fields, fieldsOf } from "./fields.ts";

/**
 * What a site allows, enforced on the device and nowhere else. Default deny: a file that is missing, does not
 * parse, lacks a field or has one we do not know refuses everything (docs/reliability.md, promise 5).
 */
export type Policy = {
  readonly version: 1;
  /** Whose signed plans may train here. */
  readonly owners: readonly { readonly name: string; readonly publicKey: string }[];
  /** Fewest devices, shares and survivors of a secure sum; a coordinator cannot lower them. */
  readonly floor: Floor;
  readonly requireSecureAggregation: boolean;
  /** What each run may learn of this device at most; null: no bound, and plans without noise are fine. */
  readonly privacy: PrivacyPolicy | null;
  readonly methods: readonly string[];
  /** Largest L2 bound a plan may put on one update; null allows any. */
  readonly maxUpdateNorm: number | null;
  /** Where rows may be read from; null where the app brings its own. */
  readonly dataFolder: string | null;
  /** Fewest rows to train on: an update from fewer says too much about each. */
  readonly minExamples: number;
  /** Most training steps of one round. */
  readonly maxSteps: number;
};

/** A budget of ε at δ for each run, and who may add the noise: "central" trusts the coordinator to. */
export type PrivacyPolicy = {
  readonly epsilon: number;
  readonly delta: number;
  readonly modes: readonly string[];
};

/** What `join` writes: the owners of the join file, cohorts of three, secure aggregation always. */
export function defaultPolicy(owners: Policy["owners"], dataFolder: string | null = null): Policy {
  return {
    version: 1,
    owners,
    floor: DEFAULT_FLOOR,
    requireSecureAggregation: true,
    privacy: null,
    methods: ["fedit", "ffa", "rolora"],
    maxUpdateNorm: null,
    dataFolder,
    minExamples: 1,
    maxSteps: 100_000,
  };
}

export function policyText(policy: Policy): string {
  return `${JSON.stringify(policy, null, 2)}\n`;
}

/**
 * A policy from its file's text. @throws Fault("refused") naming the field: nothing is trained under a bad
 * policy.
 */
export function parsePolicy(text: string): Policy {
  const at = fieldsOf("policy.json", text, "refused");
  at.knows(Object.keys(defaultPolicy([])));
  const floor = at.object("floor");
  floor.knows([...Object.keys(DEFAULT_FLOOR), "corrupt"]);
  const corrupt = floor.optional("corrupt", () => floor.integer("corrupt", 0, 500));
  const policy: Policy = {
    version: at.literal("version", 1),
    owners: at.objects("owners").map(owner),
    floor: {
      devices: floor.integer("devices", 2, 1000),
      threshold: floor.integer("threshold", 2, 1000),
      survivors: floor.integer("survivors", 2, 1000),
      ...(corrupt !== null && { corrupt }),
    },
    requireSecureAggregation: at.boolean("requireSecureAggregation"),
    privacy: at.nullable("privacy", () => privacyPolicy(at.object("privacy"))),
    methods: at.strings("methods"),
    maxUpdateNorm: at.nullable("maxUpdateNorm", () => at.positive("maxUpdateNorm")),
    dataFolder: at.nullable("dataFolder", () => at.string("dataFolder")),
    minExamples: at.integer("minExamples", 1, 1e9),
    maxSteps: at.integer("maxSteps", 1, 1e9),
  };
  floor.done();
  at.done();
  return policy;
}

const MODES: readonly string[] = ["distributed", "central", "local"];

function privacyPolicy(fields: Fields): PrivacyPolicy {
  fields.knows(["epsilon", "delta", "modes"]);
  const delta = fields.positive("delta");
  demand(
    delta < 1,
    () => new Fault("refused", "policy.json, privacy.delta", { expected: "below 1", got: `${delta}` }),
  );
  const modes = fields.strings("modes");
  const odd = modes.find((mode) => !MODES.includes(mode));
  const expected = MODES.join(", ");
  demand(
    odd === undefined,
    () => new Fault("refused", "policy.json, privacy.modes", { expected, got: `${odd}` }),
  );
  const policy = { epsilon: fields.positive("epsilon"), delta, modes };
  fields.done();
  return policy;
}

function owner(fields: Fields): Policy["owners"][number] {
  const named = { name: fields.string("name"), publicKey: fields.string("publicKey") };
  const { length } = fromHex(named.publicKey, "policy.json, owner's publicKey");
  demand(
    length === 32,
    () => new Fault("refused", `policy.json, owner ${named.name}`, { expected: "32 bytes" }),
  );
  fields.done();
  return named;
}

/** Nothing when the policy allows the owner's plan; else a Fault("refused") naming the rule. */
export function permit(policy: Policy, plan: Plan, owner: Identity): void {
  const got = `${owner.name} ${hex(owner.publicKey).slice(0, 8)}`;
  rule(isApproved(policy, owner), "run owner", { expected: names(policy), got });
  const { adapter, cohort, train, update, secureAggregation } = plan;
  rule(policy.methods.includes(adapter.method), "method", {
    expected: policy.methods.join(", "),
    got: adapter.method,
  });
  rule(secureAggregation.enabled || !policy.requireSecureAggregation, "secure aggregation", {
    expected: "on",
    got: "off",
  });
  if (policy.privacy) {
    const modes = policy.privacy.modes.join(" or ");
    const mode = plan.privacy?.mode;
    rule(mode !== undefined && policy.privacy.modes.includes(mode), "privacy", {
      expected: `noise in every sum, ${modes}`,
      got: mode ?? "none",
    });
  }
  // In the clear the floor has nothing to protect; under a secure sum the session checks it again, on the
  // roster.
  rule(!secureAggregation.enabled || cohort.min >= policy.floor.devices, "smallest cohort", {
    expected: `at least ${policy.floor.devices} devices`,
    got: `${cohort.min}`,
  });
  const { maxUpdateNorm, maxSteps } = policy;
  rule(maxUpdateNorm === null || update.clipNorm <= maxUpdateNorm, "update norm", {
    expected: `at most ${maxUpdateNorm}`,
    got: `${update.clipNorm}`,
  });
  rule(train.steps <= maxSteps, "training steps", { expected: `at most ${maxSteps}`, got: `${train.steps}` });
}

/** Refuses to train on fewer rows than the site allows. */
/** Whether the site approved this owner, by name and key. */
export function isApproved(policy: Policy, owner: Identity): boolean {
  const key = hex(owner.publicKey);
  return policy.owners.some(({ name, publicKey }) => name === owner.name && publicKey === key);
}

export function permitRows({ minExamples }: Policy, rows: number): void {
  rule(rows >= minExamples, "training rows", { expected: `at least ${minExamples}`, got: `${rows}` });
}

function rule(allowed: boolean, what: string, detail: { expected: string; got: string }): void {
  const todo = "The site's policy.json decides; only the site can change it";
  demand(allowed, () => new Fault("refused", `policy, ${what}`, { ...detail, todo }));
}

function names({ owners }: Policy): string {
  return owners.map(({ name }) => name).join(", ") || "nobody";
}
