import { activeTensors } from "@tutti/adapter/method";
import { seededRandom } from "@tutti/foundation/random";
import type { Engine } from "@tutti/graph/ir";
import { beforeAll, describe, expect, test } from "vitest";
import { nodeEngine } from "../src/node/engine.ts";
import { openTrainer } from "../src/trainer.ts";
import { clouds, prepared } from "./mlp.ts";

let engine: Engine;
beforeAll(async () => {
  engine = await nodeEngine("tfjs");
});

const { base, plan, parameters } = prepared();
const rows = clouds(60, seededRandom("rows"));
const active = activeTensors("fedit", 0, plan.tensors);

describe("openTrainer", () => {
  test("training lowers the loss, moves only what is active, and leaves its arguments alone", async () => {
    const trainer = await openTrainer({ base, plan, engine });
    const before = await trainer.evaluate({ parameters, examples: rows });
    const copy = structuredClone(parameters);
    const onlyB = active.filter(({ name }) => name.includes("lora_B"));
    const options = { parameters, examples: rows, steps: 40, random: seededRandom("train") };
    const trained = await trainer.train({ ...options, active: onlyB });
    const after = await trainer.evaluate({ parameters: trained.parameters, examples: rows });
    await trainer.dispose();
    expect(after.lossSum).toBeLessThan(before.lossSum * 0.8);
    expect(after.correct).toBeGreaterThan(before.correct);
    expect(after.examples).toBe(60);
    expect(parameters).toEqual(copy);
    for (const [name, data] of trained.parameters) {
      if (name.includes("lora_A")) expect(data).toEqual(parameters.get(name));
      else expect(data).not.toEqual(parameters.get(name));
    }
  });

  test("the same seed gives the same bits; another seed does not", async () => {
    const once = async (seed: string) => {
      const trainer = await openTrainer({ base, plan, engine });
      const trained = await trainer.train({
        parameters,
        active,
        examples: rows,
        steps: 7,
        random: seededRandom(seed),
      });
      await trainer.dispose();
      return trained;
    };
    const [first, again, other] = [await once("a"), await once("a"), await once("b")];
    expect(again).toEqual(first);
    expect(other.parameters).not.toEqual(first.parameters);
  });

  test("both engines agree", async () => {
    const trained = await Promise.all(
      [engine, await nodeEngine("onnxruntime")].map(async (engine) => {
        const trainer = await openTrainer({ base, plan, engine });
        const options = { parameters, active, examples: rows, steps: 5, random: seededRandom("same") };
        const { parameters: moved } = await trainer.train(options);
        await trainer.dispose();
        return moved;
      }),
    );
    for (const [name, data] of trained[0]!) {
      data.forEach((value, at) => {
        expect(value).toBeCloseTo(trained[1]!.get(name)![at]!, 4);
      });
    }
  });

  test("schedule and pull of the plan reach every step", async () => {
    const moved = async (train: Partial<typeof plan.train>) => {
      const optimiser = { name: "sgd", learningRate: 0.05, momentum: 0 } as const;
      const trainer = await openTrainer({
        base,
        plan: { ...plan, train: { ...plan.train, optimiser, ...train } },
        engine,
      });
      const options = { parameters, active, examples: rows, steps: 4, random: seededRandom("same") };
      const trained = await trainer.train(options);
      await trainer.dispose();
      return [...trained.parameters].reduce(
        (sum, [name, data]) => sum + Math.hypot(...data.map((v, at) => v - parameters.get(name)![at]!)),
        0,
      );
    };
    const free = await moved({ steps: 4 });
    expect(await moved({ steps: 4, schedule: { name: "linear" } })).toBeLessThan(0.8 * free);
    expect(await moved({ steps: 4, schedule: { name: "constant", warmUp: 3 } })).toBeLessThan(0.8 * free);
    expect(await moved({ steps: 4, proximal: 10 })).toBeLessThan(0.9 * free);
    const adagrad = await moved({ steps: 4, optimiser: { name: "adagrad", learningRate: 0.05 } });
    expect(adagrad).not.toBeCloseTo(free, 3);
  });

  test("a base or tensors other than the plan's are refused", async () => {
    const changed = base.slice();
    changed[changed.length - 1]! ^= 1;
    await expect(openTrainer({ base: changed, plan, engine })).rejects.toThrow(
      /base model: expected SHA-256/,
    );
    const wider = plan.tensors.map((tensor, at) => (at === 0 ? { ...tensor, shape: [3, 4] } : tensor));
    await expect(openTrainer({ base, plan: { ...plan, tensors: wider }, engine })).rejects.toThrow(
      /tensor 0 of the adapter/,
    );
    const fewer = { ...plan, tensors: plan.tensors.slice(1) };
    await expect(openTrainer({ base, plan: fewer, engine })).rejects.toThrow(/tensor 0 of the adapter/);
  });

  test("stops at a signal", async () => {
    const trainer = await openTrainer({ base, plan, engine });
    const stop = new AbortController();
    const options = { parameters, active, examples: rows, steps: 1000, random: seededRandom(1) };
    const onStep = (step: number) => step === 3 && stop.abort();
    await expect(trainer.train({ ...options, onStep, signal: stop.signal })).rejects.toThrow(/after 4 steps/);
    await trainer.dispose();
  });
});
