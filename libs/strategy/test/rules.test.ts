import type { Plan } from "@tutti/plan/plan";
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { adam } from "../src/adam.ts";
import { chain } from "../src/chain.ts";
import { momentum } from "../src/momentum.ts";
import { ruleOf } from "../src/rule.ts";
import { scale } from "../src/scale.ts";
import type { Rule, State } from "../src/types.ts";

/** Steps of one coordinate over rounds, through the rule. */
function run(rule: Rule, means: readonly number[]): number[] {
  let held: State = rule.begin(1);
  return means.map((mean) => {
    const [step, next] = rule.apply(Float32Array.of(mean), held);
    held = next;
    return step[0]!;
  });
}

const means = fc.array(fc.double({ min: -10, max: 10, noNaN: true }), { minLength: 1, maxLength: 8 });
const share = fc.double({ min: 0, max: 0.99, noNaN: true });

function close(got: readonly number[], wanted: readonly number[], tolerance = 1e-4): void {
  expect(got.length).toBe(wanted.length);
  got.forEach((value, i) => {
    expect(Math.abs(value - wanted[i]!)).toBeLessThanOrEqual(tolerance * Math.max(1, Math.abs(wanted[i]!)));
  });
}

describe("by hand", () => {
  test("scale: the mean times the rate, and nothing remembered", () => {
    expect(run(scale(0.5), [2, -4])).toEqual([1, -2]);
    expect(scale(0.5).begin(3)).toEqual([]);
  });

  test("momentum 0.5 over 1, 1, 0: 1, 1.5, 0.75", () => {
    expect(run(momentum(0.5), [1, 1, 0])).toEqual([1, 1.5, 0.75]);
  });

  test("FedAdam, Algorithm 2: β1 = β2 = 0.5, τ = 0.5, v₋₁ = τ²", () => {
    // Δ = 1: m = 0.5, v = 0.625, step 0.5 / (0.790569 + 0.5). Then Δ = −1: m = −0.25, v = 0.8125.
    const rule = adam({ beta1: 0.5, beta2: 0.5, epsilon: 0.5 });
    close(run(rule, [1, -1]), [0.3874259, -0.1783946], 1e-6);
  });

  test("chain: one rule's step is the next one's mean", () => {
    expect(run(chain(momentum(0.5), scale(2)), [1, 1])).toEqual([2, 3]);
    expect(run(chain(scale(2), momentum(0.5)), [1, 1])).toEqual([2, 3]);
    expect(run(chain(momentum(0.5), momentum(0.5)), [1, 0, 0])).toEqual([1, 1, 0.75]);
    expect(run(chain(), [7])).toEqual([7]);
  });
});

describe("slow twins", () => {
  test("momentum is Σ β^(t−s) Δ_s", () => {
    fc.assert(
      fc.property(means, share, (deltas, beta) => {
        const twin = deltas.map((_, t) =>
          deltas.slice(0, t + 1).reduce((sum, delta, s) => sum + beta ** (t - s) * delta, 0),
        );
        close(run(momentum(beta), deltas), twin);
      }),
    );
  });

  test("FedAdam from the closed sums of its two moments", () => {
    fc.assert(
      fc.property(means, share, share, (deltas, beta1, beta2) => {
        const epsilon = 0.01;
        const twin = deltas.map((_, t) => {
          const past = deltas.slice(0, t + 1);
          const m = past.reduce((sum, delta, s) => sum + (1 - beta1) * beta1 ** (t - s) * delta, 0);
          const v = past.reduce((sum, delta, s) => sum + (1 - beta2) * beta2 ** (t - s) * delta ** 2, 0);
          return m / (Math.sqrt(v + beta2 ** (t + 1) * epsilon ** 2) + epsilon);
        });
        close(run(adam({ beta1, beta2, epsilon }), deltas), twin, 1e-3);
      }),
    );
  });
});

describe("every rule", () => {
  const rules: Record<string, Rule> = {
    scale: scale(0.3),
    momentum: momentum(0.9),
    adam: adam({ beta1: 0.9, beta2: 0.99, epsilon: 1e-3 }),
    chain: chain(momentum(0.9), adam({ beta1: 0.9, beta2: 0.99, epsilon: 1e-3 }), scale(0.1)),
  };

  test.each(Object.entries(rules))("%s is coordinate-wise and writes to no argument", (_, rule) => {
    fc.assert(
      fc.property(fc.array(means, { minLength: 2, maxLength: 4 }), (columns) => {
        const rounds = Math.min(...columns.map((column) => column.length));
        let held: State = rule.begin(columns.length);
        const steps: Float32Array[] = [];
        for (let t = 0; t < rounds; t++) {
          const mean = Float32Array.from(columns, (column) => column[t]!);
          const before = [mean.slice(), ...held.map((vector) => vector.slice())];
          const [step, next] = rule.apply(mean, held);
          expect([mean, ...held]).toEqual(before);
          held = next;
          steps.push(step);
        }
        columns.forEach((column, i) => {
          expect(steps.map((step) => step[i])).toEqual(run(rule, column.slice(0, rounds)));
        });
      }),
    );
  });

  test.each(Object.entries(rules))("%s keeps one value per coordinate in every vector", (_, rule) => {
    const [step, held] = rule.apply(new Float32Array(5), rule.begin(5));
    expect([step, ...held].map(({ length }) => length)).toEqual([5, ...rule.begin(0).map(() => 5)]);
  });
});

describe("ruleOf a plan's server field", () => {
  const cases: [Plan["server"], Rule][] = [
    [{ name: "fedavg", learningRate: 0.7 }, scale(0.7)],
    [{ name: "momentum", learningRate: 0.5, beta: 0.8 }, chain(momentum(0.8), scale(0.5))],
    [
      { name: "adam", learningRate: 0.1, beta1: 0.8, beta2: 0.9, epsilon: 0.01 },
      chain(adam({ beta1: 0.8, beta2: 0.9, epsilon: 0.01 }), scale(0.1)),
    ],
  ];
  test.each(cases)("%j", (server, rule) => {
    expect(run(ruleOf(server), [1, -2, 3])).toEqual(run(rule, [1, -2, 3]));
  });
});
