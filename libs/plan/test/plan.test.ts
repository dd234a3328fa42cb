import { fromUtf8, utf8 } from "@tutti/foundation/bytes";
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { invitedOf, mostInvited, placesFor } from "../src/cohort.ts";
import { type Plan, parsePlan, parseRunFile, planBytes } from "../src/plan.ts";

/** The least that a run file must say. */
const RUN_FILE = {
  base: "model.onnx",
  name: "penguins",
  adapter: { rank: 4, alpha: 8, targets: "all-linear" },
  loss: "softmax-cross-entropy",
  train: { optimiser: { name: "sgd", learningRate: 0.1 }, steps: 20, batchSize: 16 },
  rounds: 5,
  cohort: { min: 3, max: 10 },
};

const PLAN = {
  ...RUN_FILE,
  version: 1,
  base: { sha256: "ab".repeat(32), bytes: 1000 },
  tensors: [
    { name: "w.A", shape: [4, 8] },
    { name: "w.B", shape: [2, 4] },
  ],
  initial: { sha256: "cd".repeat(32), bytes: 500 },
};

/** The value with the member at `path` replaced; undefined takes it away. */
function put(value: unknown, path: string, member: unknown): unknown {
  const copy = structuredClone(value) as Record<string, unknown>;
  const keys = path.split(".");
  const last = keys.pop()!;
  let at = copy;
  for (const key of keys) at = at[key] as Record<string, unknown>;
  if (member === undefined) delete at[last];
  else at[last] = member;
  return copy;
}

/** The same JSON with the members of every object in another order. */
function reorder(value: unknown, seed: number): unknown {
  if (Array.isArray(value)) return value.map((item) => reorder(item, seed));
  if (typeof value !== "object" || value === null) return value;
  const entries = Object.entries(value).map(([key, member]) => [key, reorder(member, seed)] as const);
  const rank = (key: string) => ((key.charCodeAt(0) + key.length) * 7919 * (seed + 1)) % 101;
  return Object.fromEntries(entries.sort(([a], [b]) => rank(a) - rank(b)));
}

describe("run file", () => {
  test("a cohort whose sum the ring cannot hold is refused: three levels for each device", () => {
    const at = (bits: number, max: number) =>
      parseRunFile({ ...RUN_FILE, cohort: { min: 3, max }, secureAggregation: { bits } });
    expect(at(8, 85).cohort.max).toBe(85);
    expect(() => at(8, 86)).toThrow("field cohort: expected max · 3 ≤ 2^bits = 256, got 86 · 3 at 8 bits");
    expect(at(9, 100).cohort.max).toBe(100);
  });

  test.each([
    ["round", 5, "Did you mean rounds?"],
    ["train.optimiser.learningrate", 0.1, "Did you mean learningRate?"],
    ["cohort.mim", 3, "Did you mean min?"],
    ["train.zzz", 3, "Known here: optimiser, steps, batchSize"],
  ])("a misspelt field, %s, is told with the one that is meant", (path, value, todo) => {
    const field = `run file, field ${path}: expected no such field`;
    expect(() => parseRunFile(put(RUN_FILE, path, value))).toThrow(field);
    expect(() => parseRunFile(put(RUN_FILE, path, value))).toThrow(todo);
  });

  test("what a name may be is told in words", () => {
    expect(() => parseRunFile({ ...RUN_FILE, name: "a run" })).toThrow(
      'run file, field name: expected 1..64 of A-Z a-z 0-9 . _ -, got "a run"',
    );
  });

  test("the least that can be said, and what is filled in", () => {
    expect(parseRunFile(RUN_FILE)).toEqual({
      ...RUN_FILE,
      adapter: { ...RUN_FILE.adapter, method: "rolora", save: [] },
      train: { ...RUN_FILE.train, optimiser: { name: "sgd", learningRate: 0.1, momentum: 0 } },
      server: { name: "fedavg", learningRate: 1 },
      evaluation: { holdout: 0.2 },
      cohort: { ...RUN_FILE.cohort, count: 1, combine: "mean", overInvite: 1.3 },
      secureAggregation: { enabled: true, bits: 24 },
      update: { clipNorm: 10, clip: 1, maxWeight: 1000 },
      deadlines: { joinMs: 600_000, trainMs: 600_000, stageMs: 15_000 },
      attempts: 3,
      seed: 1,
    });
  });

  test.each([
    ["name", "two words"],
    ["name", undefined],
    ["adapter.rank", 0],
    ["adapter.rank", 1.5],
    ["adapter.alpha", Number.POSITIVE_INFINITY],
    ["adapter.method", "flora"],
    ["adapter.targets", "some"],
    ["loss", "hinge"],
    ["loss", { kind: "huber" }],
    ["loss", { kind: "huber", delta: 1, margin: 1 }],
    ["adapter.rankPattern", { query: 0 }],
    ["train.schedule", { name: "step" }],
    ["train.proximal", -1],
    ["train.optimiser", { name: "lbfgs" }],
    ["train.optimiser.learningRate", -1],
    ["train.optimiser.momentum", 1],
    ["train.steps", "many"],
    ["train.clipGradient", 0],
    ["rounds", 0],
    ["server", { name: "adam" }],
    ["cohort.min", 1],
    ["cohort.max", 1001],
    ["secureAggregation", { bits: 33 }],
    ["update", { clip: 0 }],
    ["deadlines", { joinMs: 1 }],
    ["attempts", 0],
    ["seed", -1],
    ["evaluation", { holdout: 0.95 }],
    ["data", { columns: [], label: "y" }],
  ])("%s = %j is refused, and the field is named", (path, value) => {
    const [field] = path.split(".");
    expect(() => parseRunFile(put(RUN_FILE, path, value))).toThrow(new RegExp(`^run file, field ${field}`));
  });

  test("what may be said beside: it is kept as it was said, and nothing is filled in", () => {
    const more = {
      ...RUN_FILE,
      adapter: { ...RUN_FILE.adapter, rslora: true, rankPattern: { query: 8 }, alphaPattern: { query: 4 } },
      loss: { kind: "contrastive-pair", margin: 0.5 },
      train: {
        ...RUN_FILE.train,
        optimiser: { name: "sgd", learningRate: 0.1, momentum: 0.9, nesterov: true },
        schedule: { name: "cosine", warmUp: 5, to: 0.01 },
        proximal: 0.1,
      },
    };
    expect(parseRunFile(more)).toMatchObject(more);
    const parsed = parseRunFile(RUN_FILE);
    expect(Object.keys(parsed.train)).toEqual(["optimiser", "steps", "batchSize"]);
    expect(Object.keys(parsed.adapter).sort()).toEqual(["alpha", "method", "rank", "save", "targets"]);
  });

  test("a member that nobody knows is refused, so that a misspelt option cannot be passed over", () => {
    expect(() => parseRunFile(put(RUN_FILE, "secureAgregation", {}))).toThrow("field secureAgregation");
    expect(() => parseRunFile(put(RUN_FILE, "train.stepz", 1))).toThrow("field train.stepz");
  });

  const DATA = { columns: ["u"], label: "kind" };
  test.each(["notebook.csv", "./sub/a.csv", "sub/..a..csv", "a b.csv"])(
    "rows in %s are a site's own",
    (csv) => {
      expect(parseRunFile({ ...RUN_FILE, data: { ...DATA, csv } }).data?.csv).toBe(csv);
    },
  );

  test.each([
    "../../../etc/passwd",
    "sub/../../a.csv",
    "sub/..",
    "/etc/passwd",
    "..\\a.csv",
    "sub\\a.csv",
    "C:/a.csv",
    "C:a.csv",
    "a\0.csv",
  ])("rows outside of a site's data folder are refused before any site is asked: %j", (csv) => {
    const told = "field data.csv: expected a path in the site's data folder, without .., got";
    const data = { ...DATA, csv };
    expect(() => parseRunFile({ ...RUN_FILE, data })).toThrow(told);
    expect(() => parsePlan(utf8(JSON.stringify({ ...PLAN, data })))).toThrow(told);
    expect(() => planBytes({ ...PLAN, data } as unknown as Plan)).toThrow(told);
  });

  test("a cohort's least above its most is refused", () => {
    expect(() => parseRunFile(put(RUN_FILE, "cohort", { min: 5, max: 4 }))).toThrow(
      "run file, field cohort: expected min ≤ max, got 5 > 4",
    );
  });

  test.each([
    [{ combine: "median" }, "expected count ≥ 3 with this combine, got 1"],
    [{ combine: "geometric-median", count: 2 }, "expected count ≥ 3 with this combine, got 2"],
    [{ combine: { name: "trimmed-mean", trim: 0.2 }, count: 4 }, "expected trim · count ≥ 1, got 0.2 · 4"],
    [{ combine: { name: "trimmed-mean", trim: 0.5 }, count: 4 }, "cohort"],
    [{ count: 65 }, "cohort"],
  ])("cohorts that their rule could not be robust over are refused: %j", (cohort, message) => {
    expect(() => parseRunFile({ ...RUN_FILE, cohort: { min: 3, max: 4, ...cohort } })).toThrow(message);
  });

  test("trim · count is taken as it is written, not as the double below it", () => {
    const cohort = { min: 3, max: 4, count: 10, combine: { name: "trimmed-mean", trim: 0.1 } };
    expect(parseRunFile({ ...RUN_FILE, cohort }).cohort).toMatchObject(cohort);
  });

  test.each([
    [{ target: 2 }, "expected target from 3, the fewest, to 20, max · count, got 2"],
    [{ target: 21 }, "expected target from 3, the fewest, to 20, max · count, got 21"],
    [{ target: 8, count: 3, combine: "median" }, "expected target from 9, the fewest, to 30"],
    [{ overInvite: 0.9 }, "field cohort.overInvite"],
  ])("a target that no round could have is refused: %j", (cohort, message) => {
    expect(() => parseRunFile(put(RUN_FILE, "cohort", { min: 3, max: 10, count: 2, ...cohort }))).toThrow(
      message,
    );
  });

  test("late updates are refused where they could not weigh less, or would never fit", () => {
    const at = (staleness: unknown, more: object) => parseRunFile({ ...RUN_FILE, staleness, ...more });
    const fedit = { adapter: { ...RUN_FILE.adapter, method: "fedit" } };
    expect(at({ max: 1 }, fedit).staleness).toEqual({ max: 1, weight: "polynomial" });
    expect(at({ max: 2, weight: { name: "polynomial", a: 1 } }, {}).staleness?.max).toBe(2);
    expect(() => at({ max: 1 }, {})).toThrow("field staleness: expected max ≥ 2 with adapter.method rolora");
    const privacy = { mode: "distributed", noiseMultiplier: 1 };
    expect(() => at({ max: 2 }, { ...fedit, privacy })).toThrow("expected none in a run with privacy");
    expect(() => at({ max: 0 }, fedit)).toThrow("field staleness.max");
    expect(parseRunFile(RUN_FILE)).not.toHaveProperty("staleness");
  });

  test.each([null, undefined, 7, "text", [RUN_FILE]])("%j is no run file", (value) => {
    expect(() => parseRunFile(value)).toThrow("run file");
  });
});

describe("a round's sizes", () => {
  const sizes = fc
    .record({
      min: fc.integer({ min: 2, max: 5 }),
      more: fc.nat(5),
      count: fc.integer({ min: 1, max: 5 }),
      part: fc.double({ min: 0, max: 1, noNaN: true }),
      overInvite: fc.option(fc.constantFrom(1, 1.1, 1.3, 2, 10), { nil: undefined }),
    })
    .map(({ min, more, count, part, overInvite }) => {
      const most = (min + more) * count;
      const target = Math.round(min + part * (most - min));
      const cohort = { min, max: min + more, count, combine: "mean" as const, target };
      return { cohort: overInvite === undefined ? cohort : { ...cohort, overInvite } };
    });

  test("places are what can be dealt up to the target; the invited are as many and some more", () => {
    fc.assert(
      fc.property(sizes, fc.nat(70), (plan, n) => {
        const {
          min,
          max,
          count,
          target,
          overInvite = 1,
        } = plan.cohort as (typeof plan)["cohort"] & {
          overInvite?: number;
        };
        // The slow twin: the most devices up to n and the target that some number of cohorts holds.
        let most = 0;
        for (let cohorts = 1; cohorts <= count; cohorts++)
          if (cohorts * min <= n) most = Math.max(most, Math.min(n, target, cohorts * max));
        expect(placesFor(plan, n)).toBe(most);
        const invited = invitedOf(plan, n);
        expect(invited).toBeGreaterThanOrEqual(most);
        expect(invited).toBeLessThanOrEqual(Math.min(n, mostInvited(plan)));
        const asked = most * overInvite;
        expect(invited === n || (invited > asked - 1e-6 && invited < asked + 1)).toBe(true);
      }),
    );
  });

  test("a product that a double lies above is not rounded up", () => {
    const cohort = { min: 3, max: 10, count: 1, combine: "mean" as const };
    expect(mostInvited({ cohort: { ...cohort, overInvite: 1.1 } })).toBe(11);
    expect(mostInvited({ cohort: { ...cohort, overInvite: 1.3 } })).toBe(13);
    expect(mostInvited({ cohort })).toBe(10);
  });
});

describe("plan", () => {
  const plan = PLAN as unknown as Plan;

  test("bytes and back; defaults are in the bytes, so later ones cannot change a signed plan", () => {
    const bytes = planBytes(plan);
    expect(planBytes(parsePlan(bytes))).toEqual(bytes);
    expect(fromUtf8(bytes)).toContain('"server":{"name":"fedavg","learningRate":1}');
  });

  test("one plan has one encoding, whatever the order of its members", () => {
    fc.assert(
      fc.property(fc.nat(1000), (seed) => {
        expect(planBytes(reorder(PLAN, seed) as Plan)).toEqual(planBytes(plan));
      }),
    );
  });

  test.each([
    ["version", 2],
    ["base.sha256", "AB".repeat(32)],
    ["base.bytes", 0],
    ["tensors", []],
    ["tensors.0.shape", [0]],
    ["tensors.1.shape", [1, 1, 1, 1, 1, 1, 1, 1, 1]],
    ["initial", undefined],
    ["initial.sha256", "cd"],
    ["extra", 1],
  ])("%s = %j is refused, and the field is named", (path, value) => {
    const bytes = utf8(JSON.stringify(put(PLAN, path, value)));
    expect(() => parsePlan(bytes)).toThrow(new RegExp(`^plan, field ${path.split(".")[0]}`));
  });

  test("bytes that are not UTF-8, or not JSON, are a bad message", () => {
    expect(() => parsePlan(Uint8Array.of(0xff))).toThrow("plan");
    expect(() => parsePlan(utf8("{"))).toThrow("plan: expected JSON");
  });
});

describe("which devices a run asks", () => {
  const asks = (eligibility: unknown) => parseRunFile({ ...RUN_FILE, eligibility });

  test("every condition is optional, and none is made up", () => {
    expect(asks({}).eligibility).toEqual({});
    expect(parseRunFile(RUN_FILE)).not.toHaveProperty("eligibility");
    const all = {
      labels: { region: ["north", "south"], tier: "gold" },
      charging: true,
      unmetered: true,
      idle: false,
      minExamples: 20,
      sdk: ">=0.1.0",
      engines: ["onnxruntime"],
      participation: { maxRounds: 5, everyMs: 86_400_000, minRoundsBetween: 2 },
    };
    expect(asks(all).eligibility).toEqual(all);
    expect(parseRunFile({ ...RUN_FILE, share: 3 }).share).toBe(3);
  });

  test.each([
    ["labels.region", { labels: { region: [] } }],
    ["labels.region", { labels: { region: 3 } }],
    ["charging", { charging: "yes" }],
    ["minExamples", { minExamples: 0 }],
    ["sdk", { sdk: "0.1.0" }],
    ["engines", { engines: [] }],
    ["participation.maxRounds", { participation: { maxRounds: 0 } }],
    ["participation.everyMs", { participation: { everyMs: 10 } }],
    ["participation.ever", { participation: { ever: 1 } }],
    ["chargin", { chargin: true }],
  ])("a bad %s is named", (field, eligibility) => {
    expect(() => asks(eligibility)).toThrow(`run file, field eligibility.${field}`);
  });
});
