import fc from "fast-check";
import { describe, expect, test } from "vitest";
import {
  adagrad,
  adamW,
  chain,
  clipNorm,
  clipValue,
  type Optimiser,
  proximal,
  sgd,
} from "../src/optimiser.ts";

// Multiples of 1/16: float32 holds them exactly, and none is so small that m/√v of Adam loses its digits.
const sixteenth = fc.integer({ min: -32, max: 32 }).map((n) => n / 16);
const vectors = fc.integer({ min: 1, max: 5 }).chain((length) => {
  const vector = fc.array(sixteenth, {
    minLength: length,
    maxLength: length,
  });
  return fc.tuple(vector, fc.array(vector, { minLength: 1, maxLength: 6 }));
});

/** Parameters after each of the gradients. */
function run<S>(
  optimiser: Optimiser<S>,
  start: readonly number[],
  gradients: readonly (readonly number[])[],
): number[] {
  let params: Float32Array = Float32Array.from(start);
  let state = optimiser.begin(start.length);
  for (const gradient of gradients) {
    const [before, given] = [params.slice(), Float32Array.from(gradient)];
    const [next, held] = optimiser.step(params, given, state);
    expect(params, "arguments stay as they were").toEqual(before);
    expect(given, "arguments stay as they were").toEqual(Float32Array.from(gradient));
    [params, state] = [next, held];
  }
  return [...params];
}

function near(got: readonly number[], wanted: readonly number[]): void {
  for (const [i, value] of wanted.entries()) expect(Math.abs(got[i]! - value)).toBeLessThan(1e-4);
}

describe("sgd against one coordinate at a time in float64", () => {
  for (const options of [
    { learningRate: 0.1 },
    { learningRate: 0.1, momentum: 0.9 },
    { learningRate: 0.1, momentum: 0.9, nesterov: true, weightDecay: 0.1 },
  ]) {
    test(JSON.stringify(options), () =>
      fc.assert(
        fc.property(vectors, ([start, gradients]) => {
          const {
            learningRate: lr,
            momentum: m = 0,
            nesterov = false,
            weightDecay = 0,
          } = { ...options } as {
            learningRate: number;
            momentum?: number;
            nesterov?: boolean;
            weightDecay?: number;
          };
          const twin = start.map((p, i) => {
            let v = 0;
            for (const gradient of gradients) {
              const g = gradient[i]! + weightDecay * p;
              v = m * v + g;
              p -= lr * (nesterov ? g + m * v : v);
            }
            return p;
          });
          near(run(sgd(options), start, gradients), twin);
        }),
      ),
    );
  }
});

describe("adamW", () => {
  test("against one coordinate at a time in float64", () =>
    fc.assert(
      fc.property(vectors, ([start, gradients]) => {
        const [lr, b1, b2, eps, decay] = [0.05, 0.9, 0.99, 1e-6, 0.1];
        const twin = start.map((p, i) => {
          let [m, v] = [0, 0];
          for (const [t, gradient] of gradients.entries()) {
            const g = gradient[i]!;
            p *= 1 - lr * decay;
            m = b1 * m + (1 - b1) * g;
            v = b2 * v + (1 - b2) * g * g;
            p -= (lr * (m / (1 - b1 ** (t + 1)))) / (Math.sqrt(v / (1 - b2 ** (t + 1))) + eps);
          }
          return p;
        });
        const options = { learningRate: lr, beta1: b1, beta2: b2, epsilon: eps, weightDecay: decay };
        near(run(adamW(options), start, gradients), twin);
      }),
    ));

  test("the first step is the learning rate against the sign, whatever the gradient's size", () => {
    near(
      run(adamW({ learningRate: 0.01, weightDecay: 0 }), [1, 1, 1], [[3, -0.002, 500]]),
      [0.99, 1.01, 0.99],
    );
  });
});

test("adagrad against one coordinate at a time in float64", () =>
  fc.assert(
    fc.property(vectors, ([start, gradients]) => {
      const [lr, epsilon] = [0.1, 1e-3];
      const twin = start.map((p, i) => {
        let sum = 0;
        for (const gradient of gradients) {
          sum += gradient[i]! ** 2;
          p -= (lr * gradient[i]!) / (Math.sqrt(sum) + epsilon);
        }
        return p;
      });
      near(run(adagrad({ learningRate: lr, epsilon }), start, gradients), twin);
    }),
  ));

test("a rate that changes with the step", () => {
  const learningRate = (step: number) => (step === 0 ? 1 : 0.5);
  expect(run(sgd({ learningRate }), [0], [[1], [1], [1]])).toEqual([-2]);
});

describe("gradient rules", () => {
  test("clipNorm leaves short gradients and shortens long ones to the bound, keeping their direction", () => {
    const clip = clipNorm(1);
    const short = Float32Array.of(0.3, 0.4);
    expect(clip.apply(short, short, null)[0]).toEqual(short);
    const [long] = clip.apply(Float32Array.of(30, 40), short, null);
    near([...long], [0.6, 0.8]);
  });

  test("clipValue cuts each coordinate", () => {
    const [cut] = clipValue(1).apply(Float32Array.of(-3, 0.5, 2), new Float32Array(3), null);
    expect([...cut]).toEqual([-1, 0.5, 1]);
  });

  test("proximal pulls back to where training began", () => {
    const optimiser = chain([proximal(0.5)], sgd({ learningRate: 1 }));
    // w₀ = 4: first step has no pull; then 0.5·(3 − 4) = −0.5 against a gradient of 1.
    expect(run(optimiser, [4], [[1], [1]])).toEqual([2.5]);
  });

  test("a chain applies its rules in order and keeps each one's state", () => {
    const inner = chain([clipNorm(1), proximal(1)], sgd({ learningRate: 1, momentum: 0.5 }));
    // Step 1: clip 10 → 1, no pull, v = 1, w = −1. Step 2: clip → 1, pull −1, g = 0, v = 0.5, w = −1.5.
    expect(run(inner, [0], [[10], [10]])).toEqual([-1.5]);
  });
});
