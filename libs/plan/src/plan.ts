import { fromUtf8, utf8 } from "@tutti/foundation/bytes";
import { Fault, type FaultDetail } from "@tutti/foundation/fault";
import * as v from "valibot";
import { checkCohort, cohortOfPlan, cohortOfRunFile } from "./cohort.ts";
import { eligibility } from "./eligibility.ts";
import { meantBy } from "./meant.ts";
import { staysInside } from "./site-path.ts";
import { checkStaleness, staleness } from "./staleness.ts";

/**
 * The run file and the plan: one schema. A person writes a run file (YAML or JSON); `tutti run start`
 * resolves it against the base model into a plan, which the run's owner signs. Devices check every task
 * against the plan.
 */

const positive = v.pipe(v.number(), v.finite(), v.gtValue(0));
const natural = (low: number, high: number) =>
  v.pipe(v.number(), v.integer(), v.minValue(low), v.maxValue(high));
const name = v.pipe(v.string(), v.regex(/^[A-Za-z0-9._-]{1,64}$/, "1..64 of A-Z a-z 0-9 . _ -"));
const upToAThird = v.pipe(v.number(), v.minValue(0), v.maxValue(0.33));
const sha256Hex = v.pipe(v.string(), v.regex(/^[0-9a-f]{64}$/, "64 lower-case hex digits"));

const optimiser = v.variant("name", [
  v.strictObject({
    name: v.literal("sgd"),
    learningRate: positive,
    momentum: v.optional(v.pipe(v.number(), v.minValue(0), v.ltValue(1)), 0),
    nesterov: v.exactOptional(v.boolean()),
  }),
  v.strictObject({
    name: v.literal("adamw"),
    learningRate: positive,
    weightDecay: v.optional(v.pipe(v.number(), v.minValue(0)), 0),
  }),
  v.strictObject({ name: v.literal("adagrad"), learningRate: positive }),
]);

/** The learning rate over a round's steps: `warmUp` steps up, then on to `to` (libs/train/schedule). */
const schedule = v.strictObject({
  name: v.picklist(["constant", "linear", "cosine"]),
  warmUp: v.exactOptional(natural(1, 100_000)),
  to: v.exactOptional(v.pipe(v.number(), v.finite(), v.minValue(0))),
});

/** A loss by its name, or with what it needs to know (libs/graph/loss). */
const loss = v.union([
  v.picklist([
    "softmax-cross-entropy",
    "binary-cross-entropy",
    "mean-squared-error",
    "huber",
    "next-token",
    "contrastive-pair",
  ]),
  v.strictObject({ kind: v.literal("huber"), delta: positive }),
  v.strictObject({ kind: v.literal("contrastive-pair"), margin: positive }),
]);

/** How the coordinator moves the adapter by the mean update (libs/strategy). */
const server = v.variant("name", [
  v.strictObject({ name: v.literal("fedavg"), learningRate: v.optional(positive, 1) }),
  v.strictObject({
    name: v.literal("momentum"),
    learningRate: v.optional(positive, 1),
    beta: v.optional(v.pipe(v.number(), v.minValue(0), v.ltValue(1)), 0.9),
  }),
  v.strictObject({
    name: v.literal("adam"),
    learningRate: positive,
    beta1: v.optional(v.pipe(v.number(), v.minValue(0), v.ltValue(1)), 0.9),
    beta2: v.optional(v.pipe(v.number(), v.minValue(0), v.ltValue(1)), 0.99),
    epsilon: v.optional(positive, 1e-3),
  }),
]);

/** Noise in every sum, and who adds it (libs/privacy). */
const privacy = v.strictObject({
  mode: v.picklist(["distributed", "central", "local"]),
  /** z: the noise's standard deviation in a sum, in multiples of `update.clipNorm`. */
  noiseMultiplier: positive,
  /** δ that ε is told at. */
  delta: v.optional(v.pipe(v.number(), v.gtValue(0), v.ltValue(1)), 1e-5),
  /** The metrics' share of the squared norm. */
  slots: v.optional(v.pipe(v.number(), v.gtValue(0), v.ltValue(1)), 0.1),
  /** The clip norm follows a quantile of the updates' norms, from `update.clipNorm` down. */
  adaptiveClip: v.exactOptional(
    v.strictObject({
      quantile: v.optional(v.pipe(v.number(), v.gtValue(0), v.ltValue(1)), 0.5),
      rate: v.optional(v.pipe(v.number(), v.minValue(0), v.maxValue(10)), 0.2),
    }),
  ),
});

/** Where a command-line site finds its rows; an app that gives its own batches needs none of it. */
const data = v.strictObject({
  /** CSV with a header line, relative to the site's data folder. */
  csv: v.optional(v.pipe(v.string(), v.check(staysInside, "a path in the site's data folder, without .."))),
  /** Columns of the model's one float input, in order. */
  columns: v.pipe(v.array(v.string()), v.minLength(1), v.maxLength(4096)),
  label: v.string(),
  /** The label's values in class order, as they stand in the file; absent for a numeric target. */
  classes: v.optional(v.pipe(v.array(v.string()), v.minLength(2), v.maxLength(1000))),
  /** Rows of a column `split` with this value are held out; without it `evaluation.holdout` decides. */
  split: v.optional(v.strictObject({ column: v.string(), train: v.string(), test: v.string() })),
  /** "site": (x − mean) / std of the site's own training rows (ddof 1); "none": as in the file. */
  normalise: v.optional(v.picklist(["none", "site"]), "none"),
});

const fields = {
  name,
  adapter: v.strictObject({
    method: v.optional(v.picklist(["fedit", "ffa", "rolora"]), "rolora"),
    rank: natural(1, 256),
    alpha: positive,
    targets: v.union([v.literal("all-linear"), v.array(v.string())]),
    save: v.optional(v.array(v.string()), []),
    /** Scale alpha/√rank rather than alpha/rank. */
    rslora: v.exactOptional(v.boolean()),
    /** Rank or alpha of the modules that a pattern matches. */
    rankPattern: v.exactOptional(v.record(v.string(), natural(1, 256))),
    alphaPattern: v.exactOptional(v.record(v.string(), positive)),
  }),
  loss,
  data: v.optional(data),
  train: v.strictObject({
    optimiser,
    steps: natural(1, 100_000),
    batchSize: natural(1, 4096),
    /** Gradient clipping by L2 norm; absent means none. */
    clipGradient: v.optional(positive),
    schedule: v.exactOptional(schedule),
    /** FedProx: μ, the pull back to the round's model; absent means none. */
    proximal: v.exactOptional(positive),
  }),
  rounds: natural(1, 10_000),
  server: v.optional(server, { name: "fedavg" }),
  evaluation: v.optional(
    v.strictObject({ holdout: v.optional(v.pipe(v.number(), v.minValue(0), v.maxValue(0.9)), 0.2) }),
    {},
  ),
  /** Absent: an update that is late for its round is thrown away. */
  staleness: v.exactOptional(staleness),
  secureAggregation: v.optional(
    v.strictObject({
      enabled: v.optional(v.boolean(), true),
      /** Bits per coordinate on the wire. */
      bits: v.optional(natural(8, 32), 24),
      /** Of more than 100 devices in a sum, the shares that may be the coordinator's, and that may vanish. */
      graph: v.exactOptional(v.strictObject({ corrupt: upToAThird, lost: upToAThird })),
    }),
    {},
  ),
  /** Differential privacy of each device, in every round's sum (docs/privacy.md); absent: no claim. */
  privacy: v.exactOptional(privacy),
  update: v.optional(
    v.strictObject({
      /** L2 bound of one device's update. */
      clipNorm: v.optional(positive, 10),
      /** Bound of one coordinate, the quantiser's range. */
      clip: v.optional(positive, 1),
      /** Example counts above this weigh no more. */
      maxWeight: v.optional(natural(1, 1e9), 1000),
    }),
    {},
  ),
  deadlines: v.optional(
    v.strictObject({
      joinMs: v.optional(natural(100, 86_400_000), 600_000),
      trainMs: v.optional(natural(100, 86_400_000), 600_000),
      stageMs: v.optional(natural(100, 3_600_000), 15_000),
    }),
    {},
  ),
  /** Which devices are asked; absent: all of the federation. */
  eligibility: v.exactOptional(eligibility),
  /** The run's share of the devices' time against other runs of the federation; absent: 1. */
  share: v.exactOptional(natural(1, 100)),
  /** Times a round is tried in all before the run fails. */
  attempts: v.optional(natural(1, 100), 3),
  seed: v.optional(natural(0, 2 ** 31 - 1), 1),
};

const runFile = v.strictObject({
  /** Path of the base model, relative to the run file. */
  base: v.string(),
  cohort: cohortOfRunFile,
  ...fields,
});

const tensorSpec = v.strictObject({
  name: v.string(),
  shape: v.pipe(v.array(natural(1, 2 ** 26)), v.maxLength(8)),
});

const plan = v.strictObject({
  version: v.literal(1),
  base: v.strictObject({ sha256: sha256Hex, bytes: natural(1, 2 ** 40) }),
  /** Every tensor of the adapter, in the order of the flat vector. */
  tensors: v.pipe(v.array(tensorSpec), v.minLength(1), v.maxLength(10_000)),
  /** The safetensors file that round 0 starts from. */
  initial: v.strictObject({ sha256: sha256Hex, bytes: natural(1, 2 ** 40) }),
  cohort: cohortOfPlan,
  ...fields,
});

/** As a person writes it: what has a default may be left out. */
export type RunFileInput = v.InferInput<typeof runFile>;
export type RunFile = v.InferOutput<typeof runFile>;
export type Plan = v.InferOutput<typeof plan>;

/**
 * A checked run file with its defaults filled in; a Fault names the field, what was expected and what came.
 */
export function parseRunFile(value: unknown): RunFile {
  return parse("run file", runFile, value);
}

/** A checked plan from its signed bytes (JSON, UTF-8). */
export function parsePlan(bytes: Uint8Array): Plan {
  let value: unknown;
  try {
    value = JSON.parse(fromUtf8(bytes, "plan"));
  } catch (cause) {
    throw new Fault("bad-message", "plan", { expected: "JSON", got: "other text", cause });
  }
  return parse("plan", plan, value);
}

/** The bytes that are signed and whose SHA-256 is the run's id. */
export function planBytes(value: Plan): Uint8Array {
  return utf8(JSON.stringify(parse("plan", plan, value)));
}

function parse<S extends v.GenericSchema>(what: string, schema: S, value: unknown): v.InferOutput<S> {
  const result = v.safeParse(schema, value);
  if (result.success) return checked(what, result.output);
  // A misspelt field is both unknown and missing; its own name says more.
  const issue = result.issues.find(({ expected }) => expected === "never") ?? result.issues[0];
  const path = v.getDotPath(issue);
  throw new Fault("bad-input", path ? `${what}, field ${path}` : what, contrast(issue, schema));
}

/** What an issue says: a missing or an unknown field is told as such, not in the schema's own words. */
function contrast(issue: v.BaseIssue<unknown>, schema: v.GenericSchema): FaultDetail {
  if (issue.type === "strict_object" && issue.received === "undefined")
    return { expected: "a value", got: "none" };
  if (issue.expected === "never")
    return { expected: "no such field", got: issue.received, todo: meantBy(schema, issue) };
  // Of an expression the words, and not what it is written as.
  const expected = issue.type === "regex" ? issue.message : (issue.expected ?? issue.message);
  return { expected, got: issue.received };
}

/** What no single field can say. */
function checked<T>(what: string, value: T): T {
  const { cohort, secureAggregation, privacy } = value as Plan;
  if (privacy && !secureAggregation.enabled)
    throw new Fault("bad-input", `${what}, field privacy`, {
      expected: "secure aggregation, without which noise that is shared out hides nothing",
      got: "secureAggregation.enabled false",
    });
  checkCohort(`${what}, field cohort`, { cohort });
  checkStaleness(`${what}, field staleness`, value as Plan);
  const { bits } = secureAggregation;
  // Each device needs three levels of the ring: −1, 0 and 1 (libs/update/src/quantise.ts).
  if (cohort.max * 3 > 2 ** bits)
    throw new Fault("bad-input", `${what}, field cohort`, {
      expected: `max · 3 ≤ 2^bits = ${2 ** bits}`,
      got: `${cohort.max} · 3 at ${bits} bits`,
    });
  return value;
}
