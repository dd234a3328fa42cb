import { expect, test } from "vitest";
import { sgd } from "../src/optimiser.ts";
import { cosine, linear, type Schedule, stepwise, warmUp } from "../src/schedule.ts";

const rates = (schedule: Schedule, steps: number): number[] =>
  Array.from({ length: steps }, (_, step) => Math.round(schedule(step) * 1e6) / 1e6);

test("each schedule, step by step, and beyond its end", () => {
  expect(rates(linear({ from: 1, steps: 4 }), 6)).toEqual([1, 0.75, 0.5, 0.25, 0, 0]);
  expect(rates(linear({ from: 0, to: 2, steps: 2 }), 4)).toEqual([0, 1, 2, 2]);
  expect(rates(cosine({ from: 2, to: 1, steps: 4 }), 6)).toEqual([2, 1.853553, 1.5, 1.146447, 1, 1]);
  expect(rates(stepwise({ rate: 1, factor: 0.5, every: 2 }), 5)).toEqual([1, 1, 0.5, 0.5, 0.25]);
});

test("warm-up rises in equal parts to where the rest begins, which then counts from its own step 0", () => {
  expect(rates(warmUp(3, linear({ from: 1, steps: 2 })), 6)).toEqual([0.25, 0.5, 0.75, 1, 0.5, 0]);
  expect(rates(warmUp(1, 0.2), 3)).toEqual([0.1, 0.2, 0.2]);
});

test("no steps is refused by name", () => {
  expect(() => linear({ from: 1, steps: 0 })).toThrow(/linear steps/);
  expect(() => warmUp(1.5, 1)).toThrow(/warm-up steps/);
});

test("an optimiser asks its schedule with its own step", () => {
  const optimiser = sgd({ learningRate: stepwise({ rate: 1, factor: 0.5, every: 1 }) });
  let [params, state] = [Float32Array.of(0) as Float32Array, optimiser.begin(1)];
  for (let step = 0; step < 3; step++) [params, state] = optimiser.step(params, Float32Array.of(1), state);
  expect([...params]).toEqual([-1.75]);
});
