import { platformRandom, seededRandom } from "@tutti/foundation/random";
import { addInto } from "@tutti/kernels/ring";
import { METRICS, metricBounds } from "@tutti/plan/metrics";
import { rhoOf } from "@tutti/privacy/accountant";
import { readNoisedSum } from "@tutti/round/noised";
import { gridOfSum, priceOf, sizeOf } from "@tutti/round/privacy";
import { activeLayout, termsOf } from "@tutti/round/spec";
import type { Group, Party } from "@tutti/secagg/group";
import { thresholdFor } from "@tutti/secagg/threshold";
import { create } from "@tutti/wire/message";
import { Task_Kind, TaskSchema } from "@tutti/wire/round";
import { describe, expect, test } from "vitest";
import { defaultPolicy, type PrivacyPolicy } from "../src/policy.ts";
import { memorySpending, permitRound, privateWords, vectorOf } from "../src/private.ts";
import { planOf } from "./fixture.ts";

const N = 10;
const METRIC_VALUES = METRICS.map((_, at) => 10 + at);

function workOf(privacy: object = {}, clipNorm = 0) {
  const plan = planOf({
    tensors: [{ name: "a", shape: [40] }],
    rounds: 4,
    cohort: { min: N, max: N },
    update: { clipNorm: 2, maxWeight: 20 },
    privacy: { mode: "distributed", noiseMultiplier: 1, ...privacy },
  });
  const task = create(TaskSchema, { run: "run", round: 3, kind: Task_Kind.TRAIN, clipNorm });
  return { plan, task, attempt: 0 };
}

/** Only its size matters to noise. */
function groupOf(n: number): Group {
  const parties = new Map(Array.from({ length: n }, (_, at) => [`d${at}`, {} as Party]));
  return { parties, least: thresholdFor(n) } as unknown as Group;
}

function site(budget: PrivacyPolicy | null = null) {
  const policy = { ...defaultPolicy([]), privacy: budget };
  return { policy, secret: platformRandom(), spending: memorySpending() };
}

function wordsOf(work: ReturnType<typeof workOf>, update: Float32Array, by = site()): Uint32Array {
  const vector = vectorOf(work, update, METRIC_VALUES);
  return privateWords({ work, vector, rounding: seededRandom(1) }, by)(groupOf(N));
}

describe("a device's words under differential privacy", () => {
  test("have the length of the session's terms, and add up to update and metrics but for the noise", () => {
    const work = workOf({ noiseMultiplier: 0.001 });
    const update = Float32Array.from({ length: activeLayout(work).length }, (_, at) => Math.sin(at) * 0.1);
    const sum = new Uint32Array(termsOf(work).length);
    for (let device = 0; device < N; device++) addInto(sum, wordsOf(work, update));
    const read = readNoisedSum(work, work.plan.privacy!, { sum, size: sizeOf(groupOf(N)), survivors: N });
    for (const [at, value] of read.mean.entries()) expect(value).toBeCloseTo(update[at]!, 2);
    const bounds = metricBounds(work.plan);
    for (const [at, value] of read.metrics.entries())
      expect(Math.abs(value - N * METRIC_VALUES[at]!)).toBeLessThan(bounds[at]! / 20);
  });

  test("the noise of all who must be honest reaches what the plan asks for, and no more is claimed", () => {
    const work = workOf();
    const group = groupOf(N);
    const grid = gridOfSum(work, work.plan.privacy!, sizeOf(group));
    expect(priceOf(grid, group.least).noiseMultiplier).toBeGreaterThanOrEqual(1);
    expect(priceOf(grid, group.least).noiseMultiplier).toBeLessThan(1.001);
    expect(priceOf(grid, N).rho).toBeLessThan(rhoOf(1));
    expect(priceOf(grid, group.least - 1).rho).toBeGreaterThan(rhoOf(1));
  });

  test("an update beyond the clip norm is cut to it, metrics included in the bound", () => {
    const long = vectorOf(workOf(), new Float32Array(40).fill(100), METRIC_VALUES);
    expect(Math.hypot(...long)).toBeLessThanOrEqual(2);
    const adapting = vectorOf(workOf({ adaptiveClip: {} }, 0.5), new Float32Array(40).fill(1), METRIC_VALUES);
    expect(Math.hypot(...adapting)).toBeLessThanOrEqual(0.5);
    // The last slot is the bit: this update was too long.
    expect(adapting.at(-1)).toBeLessThan(0);
    const short = vectorOf(workOf({ adaptiveClip: {} }, 0.5), new Float32Array(40), METRIC_VALUES);
    expect(short.at(-1)).toBeGreaterThan(0);
  });

  test("each session draws its own noise", () => {
    const work = workOf();
    expect(wordsOf(work, new Float32Array(40))).not.toEqual(wordsOf(work, new Float32Array(40)));
  });

  test("the price is written down before there are words, and a refusal leaves none", () => {
    const work = workOf();
    const by = site({ epsilon: 100, delta: 1e-5, modes: ["distributed"] });
    wordsOf(work, new Float32Array(40), by);
    expect(by.spending.entries()).toMatchObject([{ run: "run", round: 3, attempt: 0, delta: 1e-5 }]);
    expect(by.spending.entries()[0]!.rho).toBeCloseTo(rhoOf(1), 3);
    const broke = {
      ...by,
      spending: {
        ...by.spending,
        add: () => {
          throw new Error("disk full");
        },
      },
    };
    expect(() => wordsOf(work, new Float32Array(40), broke)).toThrow("disk full");
  });

  test("a budget holds over the rounds of a run, before training and before the upload", () => {
    const work = workOf();
    // Of noise multiplier 1 two rounds cost ε 7.0 at δ 1e-5 and three 8.9; this is the last but one.
    const by = site({ epsilon: 8, delta: 1e-5, modes: ["distributed"] });
    permitRound(work, work.plan.privacy!, by);
    wordsOf(work, new Float32Array(40), by);
    // What is left of the run does not fit any more: an attempt was paid for twice.
    expect(() => permitRound(work, work.plan.privacy!, by)).toThrow("privacy budget of run run");
    wordsOf(work, new Float32Array(40), by);
    expect(() => wordsOf(work, new Float32Array(40), by)).toThrow("expected at most ε 8 at δ 0.00001");
    expect(by.spending.entries()).toHaveLength(2);
    const other = { ...work, task: { ...work.task, run: "other" } };
    expect(() => permitRound(other, work.plan.privacy!, by)).not.toThrow();
  });
});
