import { expect, test } from "vitest";
import { chain, sgd } from "../src/optimiser.ts";
import { controlled, nextControl, nextServerControl } from "../src/scaffold.ts";

/** Two devices with ½a(w − m)², far apart and unlike: the joint optimum is (Σ a·m)/(Σ a) = 1. */
const DEVICES = [
  { a: 1, m: 10 },
  { a: 9, m: 0 },
];
const LOCAL = { steps: 10, learningRate: 0.1 };
const zeros = () => new Float32Array(1);

/** Rounds of local SGD from the common model, the mean taken after each; with control variates or without. */
function train(rounds: number, scaffold: boolean): number {
  let [model, server] = [zeros(), zeros()];
  let own = DEVICES.map(zeros);
  for (let round = 0; round < rounds; round++) {
    const done = DEVICES.map(({ a, m }, i) => {
      const controls = scaffold ? { server, device: own[i]! } : { server: zeros(), device: zeros() };
      const optimiser = chain([controlled(controls)], sgd({ learningRate: LOCAL.learningRate }));
      let [params, state] = [model as Float32Array, optimiser.begin(1)];
      for (let step = 0; step < LOCAL.steps; step++) {
        [params, state] = optimiser.step(params, Float32Array.of(a * (params[0]! - m)), state);
      }
      const control = nextControl(controls, { before: model, after: params, ...LOCAL });
      return { params, control };
    });
    const mean = (pick: (i: number) => number) => Float32Array.of((pick(0) + pick(1)) / 2);
    server = nextServerControl(
      server,
      mean((i) => done[i]!.control[0]! - own[i]![0]!),
      1,
    ) as typeof server;
    own = done.map(({ control }) => control as ReturnType<typeof zeros>);
    model = mean((i) => done[i]!.params[0]!);
  }
  return model[0]!;
}

test("local steps drift from the joint optimum, control variates bring them back", () => {
  // Each device comes near its own optimum, so the mean is near (10·(1 − .9¹⁰) + …)/2, not 1.
  expect(train(60, false)).toBeGreaterThan(2);
  expect(train(60, true)).toBeCloseTo(1, 3);
});

test("a device's next control is the mean gradient it met, whatever corrected its steps", () => {
  const controls = { server: Float32Array.of(0.5), device: Float32Array.of(-0.25) };
  const gradients = [1, 2, 6];
  const optimiser = chain([controlled(controls)], sgd({ learningRate: 0.125 }));
  const before: Float32Array = Float32Array.of(3);
  let [after, state] = [before, optimiser.begin(1)];
  for (const g of gradients) [after, state] = optimiser.step(after, Float32Array.of(g), state);
  expect([...nextControl(controls, { before, after, steps: 3, learningRate: 0.125 })]).toEqual([3]);
});

test("the server's control moves by the share of devices that took part", () => {
  expect([...nextServerControl(Float32Array.of(1), Float32Array.of(2), 0.25)]).toEqual([1.5]);
});
