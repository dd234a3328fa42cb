import { seededRandom } from "@tutti/foundation/random";
import { addInto } from "@tutti/kernels/ring";
import { metricsOf } from "@tutti/plan/metrics";
import type { Plan } from "@tutti/plan/plan";
import { lateFactor } from "@tutti/plan/staleness";
import { scaleOf } from "@tutti/round/spec";
import { flatten, layoutOf, unflatten } from "@tutti/update/layout";
import { dequantise, steps } from "@tutti/update/quantise";
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { planOf } from "../../../libs/round/test/cast.ts";
import { contributionOf, type Outcome } from "../src/vector.ts";

const WEIGHTS = [
  "constant",
  "polynomial",
  { name: "polynomial", a: 0.1 },
  { name: "polynomial", a: 2 },
] as const;

function outcomeOf(plan: Plan, { seed, rows }: { seed: number; rows: number }): Outcome {
  const random = seededRandom(seed);
  const layout = layoutOf(plan.tensors);
  const some = (size: number) =>
    unflatten(
      layout,
      Float32Array.from({ length: layout.length }, () => (random.uniform() - 0.5) * size),
    );
  const metrics = {
    examples: rows,
    loss: rows * random.uniform(),
    correct: rows / 2,
    trainExamples: rows,
    trainLoss: rows,
  };
  return { parent: some(1), trained: some(1), metrics };
}

const device = fc.record({
  seed: fc.nat(1e6),
  rows: fc.integer({ min: 1, max: 200 }),
  late: fc.integer({ min: 0, max: 4 }),
});

describe("updates that are late", () => {
  test("are summed as a slow twin weighs them: by rows and lateness, the metrics by rows alone", () => {
    fc.assert(
      fc.property(
        fc.array(device, { minLength: 1, maxLength: 8 }),
        fc.constantFrom(...WEIGHTS),
        fc.constantFrom(16, 24, 32),
        (devices, weight, bits) => {
          const plan = planOf({
            staleness: { max: 4, weight },
            cohort: { min: 2, max: 8 },
            secureAggregation: { bits },
          });
          const layout = layoutOf(plan.tensors);
          const scale = scaleOf(plan);
          const twin = { mean: new Float64Array(layout.length), weight: 0, examples: 0, trainLoss: 0 };
          const words = devices.map(({ seed, rows, late }) => {
            const outcome = outcomeOf(plan, { seed, rows });
            const own =
              rows *
              (weight === "constant" ? 1 : 1 / (1 + late) ** (weight === "polynomial" ? 0.5 : weight.a));
            twin.weight += own;
            twin.examples += rows;
            twin.trainLoss += rows;
            const [after, before] = [outcome.trained!, outcome.parent].map((at) => flatten(layout, at));
            for (let at = 0; at < layout.length; at++) twin.mean[at]! += own * (after![at]! - before![at]!);
            return contributionOf(plan, layout, { outcome, random: seededRandom(seed) }).words(late);
          });
          const sum = new Uint32Array((words[0] as Uint32Array).length);
          for (const one of words) addInto(sum, one as Uint32Array);
          const read = dequantise(sum, { scale, length: layout.length, devices: devices.length });

          const b = steps(scale);
          const n = devices.length;
          const { clip, maxWeight } = scale;
          // Where the grid is coarser than one row, or a weight no whole number, it is rounded to a step.
          const step = Math.max(maxWeight / (2 * b), 1 / Math.floor(Math.max(1, (2 * b) / maxWeight)));
          expect(Math.abs(read.weight - twin.weight)).toBeLessThan(n * step + 1e-6);
          const metrics = metricsOf(read.metrics);
          expect(Math.abs(metrics.examples - twin.examples)).toBeLessThan(n * step + 1e-6);
          const perRounding = ((clip * maxWeight) / b / read.weight) * n;
          const perWeight = (2 * n * step * clip) / read.weight;
          for (let at = 0; at < layout.length; at++)
            expect(Math.abs(read.mean[at]! - twin.mean[at]! / twin.weight)).toBeLessThan(
              perRounding + perWeight + 1e-6,
            );
        },
      ),
    );
  });

  test("are the same words whenever they are asked for, and others for another lateness", () => {
    const plan = planOf({ staleness: { max: 4 } });
    const layout = layoutOf(plan.tensors);
    const given = { outcome: outcomeOf(plan, { seed: 1, rows: 50 }), random: seededRandom(2) };
    const one = contributionOf(plan, layout, given);
    for (const late of [0, 1, 4]) expect(one.words(late)).toEqual(one.words(late));
    expect(one.words(1)).not.toEqual(one.words(0));
    const without = contributionOf(planOf(), layout, given);
    expect(without.words(0)).toEqual(one.words(0));
  });

  test("weigh one in time, and less with every round", () => {
    for (const weight of WEIGHTS) {
      const factors = [0, 1, 2, 3].map((late) => lateFactor({ weight: weight as never }, late));
      expect(factors[0]).toBe(1);
      expect(factors).toEqual([...factors].sort((x, y) => y - x));
    }
    expect(lateFactor({ weight: "polynomial" }, 3)).toBe(0.5);
    expect(lateFactor({ weight: { name: "polynomial", a: 1 } }, 3)).toBe(0.25);
    expect(lateFactor({ weight: "constant" }, 3)).toBe(1);
  });
});
